// An image whose pixels are told by themselves: the page around it is not drawn anew for each step of a dream.
export default {
  template: '<img :src="shown" :alt="alt">',
  props: { src: String, alt: String },
  data() { return { shown: this.src }; },
  watch: { src(source) { this.shown = source; } },
  methods: { show(source) { this.shown = source; } },
};
