package report

import (
	"fmt"
	"math"
	"path"
	"strings"

	"github.com/koala-lm/koala-lm/tracking"
)

// Write writes what was found. In Markdown it is a part of a page, with pictures
// that Charts draws into the folder plots; "" is none.
func (s *Sweep) Write(o Output, plots string) error {
	results, sensitivity := s.Results(), s.Sensitivity()
	switch o.Format {
	case JSON:
		return writeJSON(o.W, map[string]any{"results": results.objects(), "sensitivity": sensitivity.objects()})
	case CSV, Separated:
		return o.Render(results)
	case Markdown:
		return s.writePage(o, plots)
	}
	if _, err := fmt.Fprintln(o.W, o.legible(s.summary())); err != nil {
		return err
	}
	if len(sensitivity.Rows) == 0 {
		return o.Render(results)
	}
	return o.Render(results, sensitivity)
}

func (s *Sweep) writePage(o Output, plots string) error {
	charts := map[string]SweepChart{}
	for _, c := range s.Charts() {
		charts[strings.TrimPrefix(c.Name, s.Name+"-")] = c
	}
	write := func(format string, args ...any) error {
		_, err := fmt.Fprintf(o.W, format, args...)
		return err
	}
	show := func(name string) error {
		c, drawn := charts[name]
		if !drawn || plots == "" {
			return nil
		}
		return write("\n![%s](%s)\n", c.Caption, path.Join(plots, c.Name+".svg"))
	}
	if err := write("## %s\n\n%s\n\n", s.Name, notHTML.Replace(harmless(s.summary()))); err != nil {
		return err
	}
	if err := o.Render(s.Results()); err != nil {
		return err
	}
	for _, name := range []string{"tokens", "time"} {
		if err := show(name); err != nil {
			return err
		}
	}
	sensitivity := s.Sensitivity()
	if len(sensitivity.Rows) == 0 {
		return nil
	}
	if err := write("\n"); err != nil {
		return err
	}
	if err := o.Render(sensitivity); err != nil {
		return err
	}
	return show("sensitivity")
}

// summary says what was trained, on what.
func (s *Sweep) summary() string {
	count := map[tracking.Status]int{}
	for _, run := range s.runs {
		count[run.Status]++
	}
	var states []string
	for _, status := range []tracking.Status{tracking.Finished, tracking.Failed, tracking.Running, tracking.Interrupted, tracking.Crashed} {
		if count[status] > 0 {
			states = append(states, fmt.Sprintf("%d %s", count[status], status))
		}
	}
	r := s.runs[0]
	text := fmt.Sprintf("%d runs (%s) on %s, fingerprint %s; %s, threads: %d, %s.",
		len(s.runs), strings.Join(states, ", "), r.Dataset, shorten("", r.DatasetFingerprint), r.Device, r.Threads, r.CPU)
	if !math.IsNaN(s.budget) {
		text += fmt.Sprintf(" Equal time is %s of steps at their median cost.", span(s.budget))
	}
	return text
}
