package main

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/koala-lm/koala-lm/internal/bars"
	"github.com/koala-lm/koala-lm/internal/visible"
	"github.com/koala-lm/koala-lm/sweep"
)

// sweepProgress draws the state of a sweep at the bottom of a terminal: a bar for the
// sweep, and a line for each running trial.
type sweepProgress struct {
	io    *streams
	mu    sync.Mutex
	lines int // drawn
}

// notef prints a message above the drawing.
func (p *sweepProgress) notef(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	visible.Fprintf(p.io.ErrOut, format+"\n", args...)
}

func (p *sweepProgress) draw(state sweep.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	lines := sweepLines(state, p.io.Width)
	fmt.Fprint(p.io.ErrOut, strings.Join(lines, "\n")+"\n")
	p.lines = len(lines)
}

func (p *sweepProgress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
}

func (p *sweepProgress) erase() {
	if p.lines > 0 {
		fmt.Fprintf(bars.Drawing(p.io.ErrOut), "\x1b[%dA\x1b[J", p.lines)
		p.lines = 0
	}
}

// sweepLines is the drawing, each line within width.
func sweepLines(state sweep.Progress, width int) []string {
	const barWidth, most = 20, 12
	bar := func(part float64) string {
		full := min(barWidth, max(0, int(math.Round(part*barWidth))))
		return "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "]"
	}
	left := ""
	if state.Left > 0 {
		left = ", " + state.Left.Round(time.Second).String() + " left"
	}
	lines := []string{fmt.Sprintf("%s sweep %s: %d of %d trials done, %.0f %%%s",
		bar(state.Share), state.Name, state.Ended, state.Pending, 100*state.Share, left)}
	for i, t := range state.Running {
		if i == most {
			lines = append(lines, fmt.Sprintf("  and %d more", len(state.Running)-most))
			break
		}
		part, steps := 0.0, fmt.Sprintf("step %d", t.Step)
		if t.Steps > 0 {
			steps += fmt.Sprintf("/%d", t.Steps)
		}
		if !math.IsNaN(t.Share) {
			part = t.Share
			steps += fmt.Sprintf(", %.0f %%", 100*part)
		}
		value := ""
		if !math.IsNaN(t.Best) {
			value = fmt.Sprintf(", %s %.4g", t.Metric, t.Best)
		}
		lines = append(lines, fmt.Sprintf("%s %s%s, %s  %s", bar(part), steps, value, t.TrainingTime.Round(time.Second), t.Label))
	}
	for i, line := range lines {
		line = visible.Text(line)
		lines[i] = line
		if runes := []rune(line); len(runes) >= width {
			lines[i] = string(runes[:max(0, width-2)]) + "…"
		}
	}
	return lines
}
