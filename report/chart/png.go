package chart

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"
	"strconv"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/f64"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"

	xdraw "golang.org/x/image/draw"
)

// density is the number of PNG pixels per pixel of the layout.
const density = 2

var (
	paper = color.RGBA{0xff, 0xff, 0xff, 0xff}
	ink   = color.RGBA{0x24, 0x29, 0x2f, 0xff}
	grid  = color.RGBA{0xd8, 0xde, 0xe4, 0xff}
)

// WritePNG draws the chart as PNG, 1920 pixels wide.
func (c Chart) WritePNG(w io.Writer) error {
	c = c.finite()
	p := &picture{faces: map[style]font.Face{}}
	height := int(math.Ceil(c.height(p.width)))
	p.image = image.NewRGBA(image.Rect(0, 0, density*pictureWidth, density*height))
	draw.Draw(p.image, p.image.Bounds(), image.NewUniform(paper), image.Point{}, draw.Src)
	p.unclip()
	c.draw(p)
	if p.err != nil {
		return fmt.Errorf("draw png: %w", p.err)
	}
	return png.Encode(w, p.image)
}

// picture is a canvas of pixels. It keeps the first error.
type picture struct {
	image   *image.RGBA
	clipped image.Rectangle
	faces   map[style]font.Face
	err     error
}

func (p *picture) clip(x, y, width, height float64) {
	p.clipped = image.Rect(int(density*x), int(density*y), int(density*(x+width)), int(density*(y+height)))
}

func (p *picture) unclip() { p.clipped = p.image.Bounds() }

// fill paints a traced shape.
func (p *picture) fill(shape *vector.Rasterizer, with color.Color) {
	mask := image.NewAlpha(p.image.Bounds())
	shape.Draw(mask, mask.Bounds(), image.Opaque, image.Point{})
	draw.DrawMask(p.image, p.clipped, image.NewUniform(with), image.Point{}, mask, p.clipped.Min, draw.Over)
}

func (p *picture) shape() *vector.Rasterizer {
	size := p.image.Bounds().Size()
	return vector.NewRasterizer(size.X, size.Y)
}

func (p *picture) rule(x1, y1, x2, y2 float64) {
	shape := p.shape()
	stroke(shape, place{x1, y1}, place{x2, y2}, 1)
	p.fill(shape, grid)
}

func (p *picture) line(points []place, series int) {
	shape := p.shape()
	trace(shape, points, dashesOf(series), 1.8)
	p.fill(shape, parseColor(colorOf(series), 0xff))
}

func (p *picture) key(at place, series int) {
	p.line([]place{at, {at.x + 26, at.y}}, series)
}

func (p *picture) dots(points []place, series int) {
	shape := p.shape()
	for _, at := range points {
		if !math.IsNaN(at.y) {
			disc(shape, at, 2.6)
		}
	}
	p.fill(shape, parseColor(colorOf(series), 0xff))
}

func (p *picture) cross(at place, series int) {
	const half = 3.5
	shape := p.shape()
	stroke(shape, place{at.x - half, at.y - half}, place{at.x + half, at.y + half}, 1.8)
	stroke(shape, place{at.x - half, at.y + half}, place{at.x + half, at.y - half}, 1.8)
	p.fill(shape, parseColor(colorOf(series), 0xff))
}

func (p *picture) band(low, high []place, series int) {
	shape := p.shape()
	for i, at := range low {
		if i == 0 {
			shape.MoveTo(density*float32(at.x), density*float32(at.y))
			continue
		}
		shape.LineTo(density*float32(at.x), density*float32(at.y))
	}
	for i := len(high) - 1; i >= 0; i-- {
		shape.LineTo(density*float32(high[i].x), density*float32(high[i].y))
	}
	shape.ClosePath()
	p.fill(shape, parseColor(colorOf(series), 0x2e))
}

// parseColor reads #rrggbb from the palette.
func parseColor(hex string, alpha uint8) color.Color {
	rgb, err := strconv.ParseUint(hex[1:], 16, 32)
	if err != nil {
		return ink
	}
	return color.NRGBA{uint8(rgb >> 16), uint8(rgb >> 8), uint8(rgb), alpha}
}

func (p *picture) face(of style) (font.Face, error) {
	of.anchor, of.turned = start, false
	if face, ok := p.faces[of]; ok {
		return face, nil
	}
	data := goregular.TTF
	if of.strong {
		data = gobold.TTF
	}
	parsed, err := opentype.Parse(data)
	if err != nil {
		return nil, err
	}
	face, err := opentype.NewFace(parsed, &opentype.FaceOptions{Size: density * of.size, DPI: 72})
	if err != nil {
		return nil, err
	}
	p.faces[of] = face
	return face, nil
}

func (p *picture) text(at place, text string, style style) {
	face, err := p.face(style)
	if err != nil {
		p.err = err
		return
	}
	width := font.MeasureString(face, text).Ceil()
	shift := map[anchor]int{start: 0, middle: width / 2, end: width}[style.anchor]
	x, y := int(density*at.x), int(density*at.y)
	if !style.turned {
		drawer := font.Drawer{Dst: p.image, Src: image.NewUniform(ink), Face: face, Dot: fixed.P(x-shift, y)}
		drawer.DrawString(text)
		return
	}
	// Drawn level on a strip of its own, then turned by a quarter to the left.
	ascent, height := face.Metrics().Ascent.Ceil(), face.Metrics().Height.Ceil()
	strip := image.NewRGBA(image.Rect(0, 0, width, height))
	drawer := font.Drawer{Dst: strip, Src: image.NewUniform(ink), Face: face, Dot: fixed.P(0, ascent)}
	drawer.DrawString(text)
	turn := f64.Aff3{0, 1, float64(x - ascent), -1, 0, float64(y + shift)}
	xdraw.BiLinear.Transform(p.image, turn, strip, strip.Bounds(), xdraw.Over, nil)
}

func (p *picture) width(text string, size float64) float64 {
	face, err := p.face(style{size: size})
	if err != nil {
		p.err = err
		return 0
	}
	return float64(font.MeasureString(face, text).Ceil()) / density
}
