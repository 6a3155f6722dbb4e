package corpus

import (
	"fmt"

	"github.com/koala-lm/koala-lm/data"
)

// Named finds a corpus by its name; "" is godoc. apart asks for punctuation
// that stands apart from words, where the corpus is made by this program.
func Named(name string, apart bool, opts Options) (Plan, error) {
	switch name {
	case "", "godoc":
		source, err := FindGodoc()
		if err != nil {
			return Plan{}, err
		}
		source.Apart, source.progress = apart, opts.Progress
		return Plan{
			Loose:  []Source{source},
			Corpus: &data.CorpusInfo{Name: "godoc", Version: source.Version},
		}, nil
	}
	return Plan{}, fmt.Errorf("no corpus is called %q: godoc", name)
}
