package main

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/koala-lm/koala-lm/data/prepare"
	"github.com/koala-lm/koala-lm/internal/bars"
)

// prepareProgress shows the stages of a preparation: on a terminal a bar for each,
// otherwise a line at the end of each long stage.
type prepareProgress struct {
	app     *app
	bars    *mpb.Progress // nil if there is no terminal
	bar     *mpb.Bar
	name    string
	started time.Time
	done    atomic.Int64 // also read where the bar is drawn
}

var _ prepare.Progress = (*prepareProgress)(nil)

// longStage is the duration from which a stage gets a line.
const longStage = time.Second

func newPrepareProgress(a *app) *prepareProgress {
	p := &prepareProgress{app: a}
	if terminal, ok := a.io.ErrOut.(*os.File); ok && a.io.ErrIsTerminal && !a.quiet {
		p.bars = bars.New(terminal, 100*time.Millisecond)
	}
	return p
}

func (p *prepareProgress) Stage(name string, total int64) {
	p.end()
	p.name, p.started = name, time.Now()
	p.done.Store(0)
	if p.bars == nil {
		return
	}
	label := mpb.PrependDecorators(decor.Name(name, decor.WC{W: 14, C: decor.DindentRight}))
	amount := decor.Any(func(s decor.Statistics) string { return humanize.Bytes(uint64(s.Current)) }, decor.WC{W: 8})
	started := p.started
	speed := decor.Any(func(decor.Statistics) string { return "  " + p.speed(started) })
	if total < 0 {
		p.bar = p.bars.AddSpinner(0, label, mpb.AppendDecorators(amount, speed), mpb.BarRemoveOnComplete())
		return
	}
	left := decor.AverageETA(decor.ET_STYLE_GO)
	p.bar = p.bars.AddBar(total, label, mpb.AppendDecorators(amount, speed, decor.Name("  "), left), mpb.BarRemoveOnComplete())
}

func (p *prepareProgress) Add(n int64) {
	p.done.Add(n)
	if p.bar != nil {
		p.bar.IncrInt64(n)
	}
}

// end ends the stage.
func (p *prepareProgress) end() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.bar = nil
	}
	if took := time.Since(p.started); p.name != "" && p.bars == nil && took >= longStage {
		amount := ""
		if done := p.done.Load(); done > 0 {
			amount = fmt.Sprintf(", %s, %s", humanize.Bytes(uint64(done)), p.speed(p.started))
		}
		p.app.notef("%s: %.1f s%s", p.name, took.Seconds(), amount)
	}
	p.name = ""
}

func (p *prepareProgress) speed(since time.Time) string {
	return fmt.Sprintf("%.0f MB/s", float64(p.done.Load())/1e6/time.Since(since).Seconds())
}

// close ends the last stage and waits until the terminal is clean.
func (p *prepareProgress) close() {
	p.end()
	if p.bars != nil {
		p.bars.Wait()
	}
}
