package chart

import (
	"math"

	"golang.org/x/image/vector"
)

// trace adds a line through points to a shape, with round joints and, where
// asked for, in dashes.
func trace(shape *vector.Rasterizer, points []place, dashes []float64, width float64) {
	pen := dashPen{dashes: dashes}
	for i, to := range points {
		if math.IsNaN(to.y) || i == 0 || math.IsNaN(points[i-1].y) {
			pen = dashPen{dashes: dashes}
			continue
		}
		pen.draw(points[i-1], to, func(a, b place) {
			stroke(shape, a, b, width)
			disc(shape, a, width/2)
			disc(shape, b, width/2)
		})
	}
}

// dashPen is drawn along a line and puts down dashes.
type dashPen struct {
	dashes []float64
	next   int     // the current dash or gap
	done   float64 // drawn length of it
}

func (p *dashPen) draw(from, to place, put func(a, b place)) {
	length := math.Hypot(to.x-from.x, to.y-from.y)
	if len(p.dashes) == 0 || length == 0 {
		put(from, to)
		return
	}
	along := func(at float64) place {
		return place{from.x + (to.x-from.x)*at/length, from.y + (to.y-from.y)*at/length}
	}
	for at := 0.0; at < length; {
		end := min(length, at+p.dashes[p.next]-p.done)
		if p.next%2 == 0 {
			put(along(at), along(end))
		}
		if end == length {
			p.done += end - at
			return
		}
		p.next, p.done = (p.next+1)%len(p.dashes), 0
		at = end
	}
}

// stroke adds a straight line as a rectangle. All parts of a shape turn the same
// way, so that where they overlap they add up to one.
func stroke(shape *vector.Rasterizer, a, b place, width float64) {
	length := math.Hypot(b.x-a.x, b.y-a.y)
	if length == 0 {
		return
	}
	dx, dy := (b.x-a.x)/length*width/2, (b.y-a.y)/length*width/2
	polygon(shape, place{a.x - dy, a.y + dx}, place{b.x - dy, b.y + dx}, place{b.x + dy, b.y - dx}, place{a.x + dy, a.y - dx})
}

// disc adds a circle of twelve sides, which is round enough at this size.
func disc(shape *vector.Rasterizer, at place, radius float64) {
	const sides = 12
	corners := make([]place, sides)
	for i := range corners {
		sin, cos := math.Sincos(-2 * math.Pi * float64(i) / sides)
		corners[i] = place{at.x + radius*cos, at.y + radius*sin}
	}
	polygon(shape, corners...)
}

func polygon(shape *vector.Rasterizer, corners ...place) {
	for i, c := range corners {
		x, y := float32(density*c.x), float32(density*c.y)
		if i == 0 {
			shape.MoveTo(x, y)
			continue
		}
		shape.LineTo(x, y)
	}
	shape.ClosePath()
}
