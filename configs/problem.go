package configs

import (
	"fmt"
	"strings"
)

// A Problem is one thing that is wrong with the settings.
type Problem struct {
	Where string // file:line:column, preset or flag; empty where none is to blame
	Text  string // what is wrong and what would be right
}

func (p Problem) String() string {
	if p.Where == "" {
		return p.Text
	}
	return p.Where + ": " + p.Text
}

// Problems is everything that is wrong, one a line.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// add notes a problem.
func (p *Problems) add(where, format string, args ...any) {
	*p = append(*p, Problem{where, fmt.Sprintf(format, args...)})
}
