package configs

import (
	"fmt"
	"strings"
)

// A Problem is one error in the settings.
type Problem struct {
	Where string // file:line:column, preset or flag; empty if none caused it
	Text  string // the error and the allowed values
}

func (p Problem) String() string {
	if p.Where == "" {
		return p.Text
	}
	return p.Where + ": " + p.Text
}

// MostProblems is the number of problems after which a file is not read further.
const MostProblems = 100

// Problems is the list of all errors, one on each line.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// add adds a problem.
func (p *Problems) add(where, format string, args ...any) {
	*p = append(*p, Problem{where, fmt.Sprintf(format, args...)})
}
