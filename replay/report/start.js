// The plots are drawn by Vega's interpreter: nothing in the page is evaluated as code.
const dark = matchMedia('(prefers-color-scheme: dark)').matches;
for (const source of document.querySelectorAll('script.spec')) {
  const chart = document.getElementById(source.dataset.chart);
  const spec = JSON.parse(source.textContent);
  if (spec.width) {
    const room = chart.clientWidth - 90;
    if (room < spec.width) {
      spec.width = Math.max(180, room);
      spec.config.legend = {...spec.config.legend, orient: 'bottom', columns: 2};
    }
  }
  if (dark) {
    const ink = '#c4c9cf';
    spec.config.axis = {...spec.config.axis, gridColor: '#303338', domainColor: '#6b7076',
                        tickColor: '#6b7076', labelColor: ink, titleColor: ink};
    spec.config.legend = {...spec.config.legend, labelColor: ink, titleColor: ink};
    spec.config.header = {labelColor: ink, titleColor: ink};
    spec.config.title = {color: ink};
    spec.config.text = {color: ink};
  }
  vegaEmbed(chart, spec, {
    mode: 'vega-lite', ast: true, renderer: 'svg', actions: false
  }).then(() => { source.dataset.drawn = 'yes'; }, (error) => {
    chart.textContent = 'not drawn: ' + error;
  });
}
