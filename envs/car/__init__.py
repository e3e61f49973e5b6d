"""CarRacing: tracks as tasks, played by a compiled engine that is true to Gymnasium's and Box2D's."""
