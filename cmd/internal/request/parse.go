package request

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Parse reads what Encode wrote into r.
func Parse(text string, r Request) error {
	var head struct {
		Version int    `json:"version"`
		Build   string `json:"build"`
	}
	if err := json.Unmarshal([]byte(text), &head); err != nil {
		return fmt.Errorf("read request: %s is started by koala-lm, not by hand: %w", EngineName, err)
	}
	if head.Version != Version {
		return fmt.Errorf("koala-lm (%s) speaks version %d of the requests and %s beside it version %d: build both again with `make build`",
			head.Build, head.Version, EngineName, Version)
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(r); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return fmt.Errorf("read request: something follows it")
	}
	if _, err := ParseDevice(string(r.common().Device)); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	for _, id := range r.runs() {
		if err := checkRun(id); err != nil {
			return err
		}
	}
	return nil
}

// checkRun refuses a run id that is not the name of a folder: a store from elsewhere
// may contain the id ../../x, and checkpoints are read, written and removed in that
// folder.
func checkRun(id string) error {
	if id == "" || id != "." && id != ".." && !strings.ContainsAny(id, "/\x00") {
		return nil
	}
	return fmt.Errorf("run id %q is not the name of a folder: the store was not made by koala-lm, or is damaged", id)
}
