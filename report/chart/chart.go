// Package chart draws line charts: on a terminal, as SVG and as PNG. The picture
// is laid out once (layout.go) on a canvas that SVG and PNG each implement.
package chart

import "math"

// Chart describes a picture.
type Chart struct {
	Title  string
	XLabel string
	YLabel string
	LogX   bool
	LogY   bool
	Series []Series

	lost [][]float64 // per series, the places on x whose y is NaN or infinite
}

// Series is one line, with a band around it where its points have bounds.
type Series struct {
	Name   string
	Points []Point
}

// Point is a point of a line. A Y that is NaN or infinite makes a gap with a mark.
type Point struct {
	X, Y      float64
	Low, High float64 // equal to Y where there is no band
}

// At is a point without a band.
func At(x, y float64) Point { return Point{x, y, y, y} }

// largest is the largest value that an axis shows, and its inverse the smallest one
// of a logarithmic axis: calculations with the ends of an axis must not overflow.
const largest = 1e200

// finite removes the values that no axis can show: NaN and infinities, which it
// lists in lost, and values that are not positive on a logarithmic axis.
func (c Chart) finite() Chart {
	shown := func(v float64, log bool) bool { return math.Abs(v) <= largest && (!log || v >= 1/largest) }
	clean := c
	clean.Series, clean.lost = make([]Series, len(c.Series)), make([][]float64, len(c.Series))
	for i, s := range c.Series {
		clean.Series[i].Name = s.Name
		for _, p := range s.Points {
			if !shown(p.X, c.LogX) {
				continue
			}
			if math.IsNaN(p.Y) || math.IsInf(p.Y, 0) {
				clean.lost[i] = append(clean.lost[i], p.X)
			}
			if !shown(p.Y, c.LogY) {
				p.Y = math.NaN()
			}
			if !shown(p.Low, c.LogY) {
				p.Low = p.Y
			}
			if !shown(p.High, c.LogY) {
				p.High = p.Y
			}
			clean.Series[i].Points = append(clean.Series[i].Points, p)
		}
	}
	return clean
}

// empty reports whether there is nothing to draw.
func (c Chart) empty() bool {
	for _, s := range c.Series {
		for _, p := range s.Points {
			if !math.IsNaN(p.Y) {
				return false
			}
		}
	}
	return true
}

// bounds returns the smallest and largest values on the axes. Whole bands count: a
// band shows the outliers.
func (c Chart) bounds() (x, y interval) {
	x, y = nothing(), nothing()
	for i, s := range c.Series {
		if i < len(c.lost) {
			for _, at := range c.lost[i] {
				x.include(at)
			}
		}
		for _, p := range s.Points {
			if math.IsNaN(p.Y) {
				continue
			}
			x.include(p.X)
			y.include(p.Y)
			y.include(p.Low)
			y.include(p.High)
		}
	}
	return x, y
}

// Thin returns at most n points that look like the given ones: the points that share
// a column become their mean, with their range as its band.
func Thin(points []Point, n int, log bool) []Point {
	if len(points) <= n || n < 1 {
		return points
	}
	place := func(x float64) float64 {
		if log {
			return math.Log(x)
		}
		return x
	}
	span := nothing()
	for _, p := range points {
		if v := place(p.X); !math.IsNaN(v) && !math.IsInf(v, 0) {
			span.include(v)
		}
	}
	width := (span.high - span.low) / float64(n)
	if !(width > 0) {
		return points[:n]
	}
	thin := make([]Point, 0, n)
	column, count := -1, 0
	for _, p := range points {
		at := place(p.X)
		if math.IsInf(at, 0) || math.IsNaN(at) {
			continue
		}
		to := min(n-1, int((at-span.low)/width))
		if to != column || math.IsNaN(p.Y) || math.IsNaN(thin[len(thin)-1].Y) {
			if to == column && math.IsNaN(p.Y) {
				continue // a gap within a column cannot be seen
			}
			if to == column {
				thin = thin[:len(thin)-1]
			}
			thin = append(thin, p)
			column, count = to, 1
			continue
		}
		last := &thin[len(thin)-1]
		count++
		last.X += (p.X - last.X) / float64(count)
		last.Y += (p.Y - last.Y) / float64(count)
		last.Low, last.High = min(last.Low, p.Low), max(last.High, p.High)
	}
	return thin
}

// Smooth returns the points' exponential moving average without a bias to the first
// value. weight is the weight of the past, from 0 (no smoothing) to below 1.
func Smooth(points []Point, weight float64) []Point {
	if weight <= 0 {
		return points
	}
	smooth := make([]Point, len(points))
	sum, norm := 0.0, 0.0
	for i, p := range points {
		smooth[i] = p
		if math.IsNaN(p.Y) || math.IsInf(p.Y, 0) {
			continue
		}
		sum = weight*sum + (1-weight)*p.Y
		norm = weight*norm + (1 - weight)
		smooth[i].Y = sum / norm
	}
	return smooth
}
