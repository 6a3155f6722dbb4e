package chart

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// WriteSVG draws the chart as a self-contained SVG, which follows the reader's light
// or dark mode.
func (c Chart) WriteSVG(w io.Writer) error {
	c = c.finite()
	s := &svg{}
	height := c.height(s.width)
	fmt.Fprintf(&s.b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %s" width="%d" height="%s" role="img">
<title>%s</title>
<style>
svg { background: #fff; font-family: system-ui, "DejaVu Sans", Helvetica, Arial, sans-serif; }
text { fill: #24292f; }
.rule { stroke: #d8dee4; stroke-width: 1; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
.band { stroke: none; opacity: .18; }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; }
  text { fill: #e6edf3; }
  .rule { stroke: #30363d; }
}
</style>
<defs><clipPath id="plot"><rect x="%d" y="%d" width="%d" height="%d"/></clipPath></defs>
`, pictureWidth, coordinate(height), pictureWidth, coordinate(height), escape(c.Title), marginLeft, marginTop, columns, plotHeight)
	c.draw(s)
	s.b.WriteString("</svg>\n")
	_, err := io.WriteString(w, s.b.String())
	return err
}

type svg struct{ b strings.Builder }

// escape makes any text valid XML, even a text with characters that XML forbids.
func escape(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(s)) // a strings.Builder takes everything
	return b.String()
}

func coordinate(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

func (s *svg) rule(x1, y1, x2, y2 float64) {
	fmt.Fprintf(&s.b, `<line class="rule" x1="%s" y1="%s" x2="%s" y2="%s"/>`+"\n",
		coordinate(x1), coordinate(y1), coordinate(x2), coordinate(y2))
}

// path writes connected points and interrupts them at gaps.
func path(b *strings.Builder, points []place) {
	command := byte('M')
	for _, p := range points {
		if math.IsNaN(p.y) {
			command = 'M'
			continue
		}
		b.WriteByte(command)
		b.WriteString(coordinate(p.x))
		b.WriteByte(' ')
		b.WriteString(coordinate(p.y))
		command = 'L'
	}
}

func (s *svg) line(points []place, series int) {
	fmt.Fprintf(&s.b, `<path class="line" stroke="%s"%s d="`, colorOf(series), dashAttribute(series))
	path(&s.b, points)
	s.b.WriteString("\"/>\n")
}

func dashAttribute(series int) string {
	var lengths []string
	for _, d := range dashesOf(series) {
		lengths = append(lengths, coordinate(d))
	}
	if lengths == nil {
		return ""
	}
	return ` stroke-dasharray="` + strings.Join(lengths, " ") + `"`
}

func (s *svg) band(low, high []place, series int) {
	fmt.Fprintf(&s.b, `<path class="band" fill="%s" d="`, colorOf(series))
	path(&s.b, low)
	for i := len(high) - 1; i >= 0; i-- {
		fmt.Fprintf(&s.b, "L%s %s", coordinate(high[i].x), coordinate(high[i].y))
	}
	s.b.WriteString("Z\"/>\n")
}

func (s *svg) dots(points []place, series int) {
	for _, at := range points {
		if !math.IsNaN(at.y) {
			fmt.Fprintf(&s.b, `<circle cx="%s" cy="%s" r="2.6" fill="%s"/>`+"\n", coordinate(at.x), coordinate(at.y), colorOf(series))
		}
	}
}

func (s *svg) cross(at place, series int) {
	const half = 3.5
	fmt.Fprintf(&s.b, `<path class="line" stroke="%s" d="M%s %sL%s %sM%s %sL%s %s"><title>not a finite number</title></path>`+"\n", colorOf(series),
		coordinate(at.x-half), coordinate(at.y-half), coordinate(at.x+half), coordinate(at.y+half),
		coordinate(at.x-half), coordinate(at.y+half), coordinate(at.x+half), coordinate(at.y-half))
}

func (s *svg) key(at place, series int) {
	fmt.Fprintf(&s.b, `<line class="line" x1="%s" y1="%s" x2="%s" y2="%s" stroke="%s"%s/>`+"\n",
		coordinate(at.x), coordinate(at.y), coordinate(at.x+26), coordinate(at.y), colorOf(series), dashAttribute(series))
}

func (s *svg) text(at place, text string, style style) {
	attributes := ""
	if style.anchor != start {
		attributes += ` text-anchor="` + map[anchor]string{middle: "middle", end: "end"}[style.anchor] + `"`
	}
	if style.strong {
		attributes += ` font-weight="600"`
	}
	if style.turned {
		attributes += fmt.Sprintf(` transform="rotate(-90 %s %s)"`, coordinate(at.x), coordinate(at.y))
	}
	fmt.Fprintf(&s.b, `<text x="%s" y="%s" font-size="%s"%s>%s</text>`+"\n",
		coordinate(at.x), coordinate(at.y), coordinate(style.size), attributes, escape(text))
}

func (s *svg) clip(_, _, _, _ float64) { s.b.WriteString("<g clip-path=\"url(#plot)\">\n") }
func (s *svg) unclip()                 { s.b.WriteString("</g>\n") }

// width is an estimate, since the reader's fonts are unknown. Wide characters count
// double.
func (s *svg) width(text string, size float64) float64 {
	units := 0.0
	for _, r := range text {
		switch {
		case r > 0x1100:
			units += 1.1
		default:
			units += 0.62
		}
	}
	return units * size
}
