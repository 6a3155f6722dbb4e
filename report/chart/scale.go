package chart

import (
	"math"
	"strconv"
	"strings"
)

// interval is a range of values.
type interval struct{ low, high float64 }

func nothing() interval { return interval{math.Inf(1), math.Inf(-1)} }

func (i *interval) include(v float64) { i.low, i.high = min(i.low, v), max(i.high, v) }

// scale maps values to places.
type scale struct {
	interval
	log      bool
	from, to float64 // places of low and high
}

// newScale gives an empty interval, or one of equal values, some width.
func newScale(values interval, log bool, from, to float64) scale {
	magnitude := max(math.Abs(values.low), math.Abs(values.high))
	single := values.high-values.low <= 1e-9*magnitude
	switch {
	case values.low > values.high:
		values = interval{1, 10}
	case single && log:
		values = interval{values.low / 2, values.high * 2}
	case single && values.low == 0:
		values = interval{0, 1}
	case single:
		room := magnitude / 10
		values = interval{values.low - room, values.high + room}
	}
	return scale{values, log, from, to}
}

// padded widens the interval by a part of itself, so that no line lies on the frame.
func (s scale) padded(part float64) scale {
	if s.log {
		room := math.Exp(part * (math.Log(s.high) - math.Log(s.low)))
		s.low, s.high = s.low/room, s.high*room
		return s
	}
	room := part * (s.high - s.low)
	s.low, s.high = s.low-room, s.high+room
	return s
}

func (s scale) place(v float64) float64 {
	low, high := s.low, s.high
	if s.log {
		v, low, high = math.Log(v), math.Log(low), math.Log(high)
	}
	return s.from + (v-low)/(high-low)*(s.to-s.from)
}

// tick is a round value with its label.
type tick struct {
	value float64
	label string
}

// ticks returns about n round values within the interval.
func (s scale) ticks(n int) []tick {
	if s.log {
		return s.logTicks(n)
	}
	step := roundStep((s.high - s.low) / float64(max(1, n)))
	var ticks []tick
	for i := math.Ceil(s.low/step - 1e-9); i*step <= s.high+1e-9*step && len(ticks) < 4*n; i++ {
		ticks = append(ticks, tick{i * step, label(i*step, step)})
	}
	return ticks
}

// logTicks returns powers of ten, with values between them where there are few, or
// linear ticks where the interval is shorter than a decade.
func (s scale) logTicks(n int) []tick {
	decades := math.Log10(s.high) - math.Log10(s.low)
	if decades < 0.7 {
		linear := s
		linear.log = false
		return linear.ticks(n)
	}
	between := []float64{1}
	switch {
	case decades < 1.5:
		between = []float64{1, 2, 3, 5, 7}
	case decades < 4:
		between = []float64{1, 2, 5}
	}
	every := max(1, math.Ceil(decades/float64(n)))
	var ticks []tick
	for power := math.Floor(math.Log10(s.low)); power <= math.Log10(s.high); power += every {
		for _, b := range between {
			unit := math.Pow(10, power)
			if v := b * unit; v >= s.low && v <= s.high {
				ticks = append(ticks, tick{v, label(v, unit)})
			}
		}
	}
	return ticks
}

// ends labels the ends of the interval, which are not round.
func (s scale) ends() (low, high string) {
	step := func(v float64) float64 {
		if s.log {
			return math.Pow(10, math.Floor(math.Log10(v))-3)
		}
		return (s.high - s.low) / 1000
	}
	return label(s.low, step(s.low)), label(s.high, step(s.high))
}

// roundStep is the smallest of 1, 2 or 5 times a power of ten that is not below
// step.
func roundStep(step float64) float64 {
	if !(step > 0) {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(step)))
	for _, factor := range []float64{1, 2, 5} {
		if factor*power >= step*(1-1e-9) {
			return factor * power
		}
	}
	return 10 * power
}

// label writes a value of an axis. It has the digits that tell values apart which
// differ by step.
func label(v, step float64) string {
	unit, name := 1.0, ""
	switch magnitude := math.Abs(v); {
	case magnitude < step/1000: // 0 but for rounding
		return "0"
	case magnitude >= 1e15 || magnitude < 1e-4:
		digits := math.Floor(math.Log10(magnitude)) - math.Floor(math.Log10(step)+1e-9)
		text := strconv.FormatFloat(v, 'e', int(min(15, max(0, digits))), 64)
		mantissa, exponent, _ := strings.Cut(text, "e")
		return trimmed(mantissa) + "e" + exponent
	case magnitude >= 1e9:
		unit, name = 1e9, "G"
	case magnitude >= 1e6:
		unit, name = 1e6, "M"
	case magnitude >= 1e4:
		unit, name = 1e3, "k"
	}
	decimals := -math.Floor(math.Log10(step/unit) + 1e-9)
	return trimmed(strconv.FormatFloat(v/unit, 'f', int(min(15, max(0, decimals))), 64)) + name
}

// trimmed drops the zeros at the end of a fraction.
func trimmed(number string) string {
	if !strings.Contains(number, ".") {
		return number
	}
	return strings.TrimSuffix(strings.TrimRight(number, "0"), ".")
}
