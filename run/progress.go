package run

import (
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/koala-lm/koala-lm/internal/bars"
	"github.com/koala-lm/koala-lm/internal/visible"
	"github.com/koala-lm/koala-lm/lm"
)

// progress shows how training goes: a bar on a terminal, otherwise a plain line now
// and then.
type progress struct {
	lm.NoObserver
	w     io.Writer
	quiet bool
	total int64 // steps of the whole run, 0 if not known

	bars *mpb.Progress // nil without a terminal
	bar  *mpb.Bar

	now     func() time.Time
	started time.Time
	first   int64 // steps done before this process
	printed time.Time

	mu       sync.Mutex // the bar draws itself, in a goroutine of its own
	last     lm.Step
	smoothed lm.Mean // of the losses shown
	speed    float64 // tokens a second
}

// plainEvery is the time between two plain lines.
const plainEvery = 10 * time.Second

func newProgress(w io.Writer, quiet bool, total, done int64) *progress {
	p := &progress{w: w, quiet: quiet, total: total, first: done, now: time.Now, started: time.Now(), printed: time.Now()}
	if f, ok := w.(*os.File); ok && !quiet && term.IsTerminal(int(f.Fd())) {
		p.bars = bars.New(f, 200*time.Millisecond)
		// The bar is made without its total: at its total a bar ends and prints no
		// more lines, but the last evaluations come later.
		p.bar = p.bars.AddBar(0,
			mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return p.epoch() }, decor.WCSyncSpaceR)),
			mpb.AppendDecorators(decor.Percentage(decor.WCSyncSpace), decor.Any(func(decor.Statistics) string { return "  " + p.figures() })))
		p.bar.SetTotal(total, false)
		p.bar.SetCurrent(done)
	}
	return p
}

func (p *progress) Stepped(s lm.Step) error {
	p.take(s)
	if p.bar != nil {
		p.bar.SetCurrent(s.Step)
	} else if p.now().Sub(p.printed) >= plainEvery {
		p.say("%s", p.line())
	}
	return nil
}

func (p *progress) take(s lm.Step) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = s
	if !s.Optimizer.NonFinite {
		// The running mean covers about the last fifty steps.
		p.smoothed.Sum = 0.98*p.smoothed.Sum + 0.02*s.Nats
		p.smoothed.Tokens++
	}
}

func (p *progress) Logged(l lm.Log) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.speed = l.TokensPerSecond
	return nil
}

func (p *progress) EpochEnded(e lm.Epoch) error {
	p.say("epoch %d: loss %.4f, ppl %.2f over its training text", e.Epoch+1, e.Nats, math.Exp(e.Nats))
	return nil
}

func (p *progress) Evaluated(e lm.Evaluation) error {
	raw := ""
	if e.Raw != nil {
		raw = fmt.Sprintf(", without the average %.4f", e.Raw.Nats)
	}
	p.say("%s at step %s: loss %.4f, ppl %.2f%s (%s tokens in %s)", e.Split, humanize.Comma(e.Step), e.Result.Nats, e.Result.Perplexity(),
		raw, humanize.Comma(e.Result.Tokens), Rounded(e.Took))
	return nil
}

// line returns the whole state as one line.
func (p *progress) line() string {
	of := ""
	if p.total > 0 {
		of = "/" + humanize.Comma(p.total)
	}
	return fmt.Sprintf("step %s%s  %s  %s", humanize.Comma(p.last.Step), of, p.epoch(), p.figures())
}

func (p *progress) epoch() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("epoch %d", p.last.Epoch+1)
}

func (p *progress) figures() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.smoothed.Tokens == 0 {
		return ""
	}
	nats := p.smoothed.Sum / (1 - math.Pow(0.98, float64(p.smoothed.Tokens)))
	text := fmt.Sprintf("loss %.3f  ppl %.1f  %s tok/s", nats, math.Exp(nats), humanize.Comma(int64(p.speed)))
	if steps := p.last.Step - p.first; p.total > 0 && steps > 0 {
		left := time.Duration(float64(p.now().Sub(p.started)) / float64(steps) * float64(p.total-p.last.Step))
		text += "  " + left.Round(time.Second).String() + " left"
	}
	return text
}

// Rounded returns a duration with about two digits.
func Rounded(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}

// say prints a line above the bar, or plainly.
func (p *progress) say(format string, args ...any) {
	p.printed = p.now()
	switch {
	case p.quiet:
	case p.bars != nil:
		visible.Fprintf(p.bars, format+"\n", args...)
	default:
		visible.Fprintf(p.w, format+"\n", args...)
	}
}

// sayPrecision says what train.precision auto took, if it was asked.
func (p *progress) sayPrecision(said string) {
	if said != "" {
		p.say("%s", said)
	}
}

// warn prints a warning, also when quiet.
func (p *progress) warn(format string, args ...any) {
	quiet := p.quiet
	p.quiet = false
	p.say("koala-lm: "+format, args...)
	p.quiet = quiet
}

// close leaves the terminal in order.
func (p *progress) close() {
	if p.bars != nil {
		p.bar.Abort(false)
		p.bars.Wait()
	}
}
