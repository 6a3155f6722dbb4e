// Package request holds the request that koala-lm passes to koala-lm-engine:
// resolved and validated, as JSON, by execve. The command makes a request and calls
// Exec; the engine calls Parse. The meaning of a request depends on no working
// folder, environment or default.
package request

import (
	"time"

	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/distributed/environment"
)

// Version is the version of the request format; the two programs must agree on it.
const Version = 1

// Common holds the fields that every request has.
type Common struct {
	Version int      `json:"version"` // set by Exec
	Build   string   `json:"build"`   // the version of koala-lm that made the request
	Command []string `json:"command"` // the command line that was typed
	Quiet   bool     `json:"quiet"`
	Device  Device   `json:"device"`
	Threads int      `json:"threads"` // 0: the engine chooses
}

// Ranks is the number of processes that train together.
func (r *Train) Ranks() int {
	if r.Place != nil {
		return r.Place.WorldSize
	}
	return max(1, r.NProc)
}

// common gives functions over all requests access to the common fields.
func (c *Common) common() *Common { return c }

// runs returns the ids of the runs that a request names. Some may be empty.
func (c *Common) runs() []string { return nil }

func (r *Train) runs() []string    { return []string{r.Resume, r.Fork} }
func (r *Eval) runs() []string     { return []string{r.Model.Run} }
func (r *Generate) runs() []string { return []string{r.Model.Run} }
func (r *Export) runs() []string   { return []string{r.Model.Run} }

// A Request is a pointer to one of the request types.
type Request interface {
	common() *Common
	runs() []string
}

// Train asks for a training run, new, resumed or forked, or with FindLR for a
// learning-rate range test. Paths are absolute.
type Train struct {
	Common
	Data     string           `json:"data"`     // dataset folder
	Settings configs.Settings `json:"settings"` // resolved; the recorded ones of a run to resume
	Name     string           `json:"name,omitempty"`
	Tags     []string         `json:"tags,omitempty"`
	Note     string           `json:"note,omitempty"`
	Store    string           `json:"store"`            // SQLite file
	Runs     string           `json:"runs"`             // folder of the runs' folders
	Resume   string           `json:"resume,omitempty"` // id of the run to continue
	Fork     string           `json:"fork,omitempty"`   // id of the run whose weights to start from
	Init     string           `json:"init,omitempty"`   // safetensors file of weights to start from
	FindLR   bool             `json:"find_lr,omitempty"`

	// Training with several processes.
	NProc       int               `json:"nproc,omitempty"` // processes to start on this host, this one included; 0: only this one
	Place       *environment.Rank `json:"place,omitempty"` // rank among processes that a launcher has started
	RankTimeout time.Duration     `json:"rank_timeout,omitempty"`
}

// Model names trained weights: a run's, or those at a path.
type Model struct {
	Run   string `json:"run,omitempty"`  // id of a run in Store
	Path  string `json:"path,omitempty"` // checkpoint, or folder that other tools wrote; empty with Run
	Store string `json:"store"`
	Runs  string `json:"runs"`
}

// Eval asks for the loss of a model on a split or on a text.
type Eval struct {
	Common
	Model    Model    `json:"model"`
	Data     string   `json:"data,omitempty"` // dataset folder; empty: the run's own
	Split    string   `json:"split,omitempty"`
	Texts    []string `json:"texts,omitempty"`    // files to score in place of a split
	By       []string `json:"by,omitempty"`       // what to divide the loss by: document, position or token
	Baseline bool     `json:"baseline,omitempty"` // score n-gram models of the train split too
	Stride   int      `json:"stride,omitempty"`   // new tokens in a Transformer's window; 0: all
	Batch    int      `json:"batch,omitempty"`    // sequences scored in parallel; 0: the run's eval.batch
	Format   string   `json:"format"`

	Cache   *Cache   `json:"cache,omitempty"`
	Dynamic *Dynamic `json:"dynamic,omitempty"`
}

// Cache asks for a neural cache (Grave et al. 2017).
type Cache struct {
	Size  int     `json:"size"`
	Theta float64 `json:"theta"`
	Share float64 `json:"share"`
}

// Dynamic asks for dynamic evaluation (Krause et al. 2018).
type Dynamic struct {
	LR    float64 `json:"lr"`
	Decay float64 `json:"decay"`
}

// Generate asks for text.
type Generate struct {
	Common
	Model       Model   `json:"model"`
	Prompt      string  `json:"prompt"`
	Prompts     string  `json:"prompts,omitempty"` // file of prompts, in place of Prompt
	Tokens      int     `json:"tokens"`            // largest number of new tokens in a sample
	Temperature float64 `json:"temperature"`       // 0: always the likeliest token
	TopK        int     `json:"top_k"`             // 0 is all
	TopP        float64 `json:"top_p"`             // 1 is all
	MinP        float64 `json:"min_p"`             // 0 is all

	Repetition float64  `json:"repetition_penalty"` // 1 is none
	Frequency  float64  `json:"frequency_penalty"`  // 0 is none
	Presence   float64  `json:"presence_penalty"`
	Stop       []string `json:"stop,omitempty"` // texts that end a sample
	Seed       int64    `json:"seed"`
	Count      int      `json:"count"` // samples of each prompt
	Format     string   `json:"format"`
	LogProbs   bool     `json:"log_probs,omitempty"` // of the drawn tokens, in the format json
}

// Bench asks for the speed and the memory of training steps.
type Bench struct {
	Common
	Settings configs.Settings `json:"settings"`
	Vocab    int              `json:"vocab"` // vocabulary of random tokens; 0 with Data
	Data     string           `json:"data,omitempty"`
	Steps    int              `json:"steps"`
	Warmup   int              `json:"warmup"`
	Format   string           `json:"format"`
}

// Export asks for a model's weights in another tool's layout.
type Export struct {
	Common
	Model Model  `json:"model"`
	To    string `json:"to"`  // huggingface or safetensors
	Out   string `json:"out"` // folder or file to write
	Force bool   `json:"force,omitempty"`
}
