// What is in plotly.min.js: the core, which draws lines and points, and the other traces of our figures.
const Plotly = require("plotly.js/lib/core");
Plotly.register([require("plotly.js/lib/bar"), require("plotly.js/lib/heatmap")]);
module.exports = Plotly;
