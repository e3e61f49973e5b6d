"""The car: its shapes, tyres, contacts and joints, as Box2D moves them."""
