package huggingface

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/checkpoint"
)

// Is reports whether a folder looks like a model's.
func Is(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, ConfigFile))
	return err == nil
}

// Open makes the model of a folder, with its weights, on device.
func Open(folder string, device gotch.Device) (lm.Model, error) {
	path := filepath.Join(folder, ConfigFile)
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("open model: %w", err)
	}
	config, err := ParseConfig(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	m, err := lm.New(config, 0, device)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := checkpoint.InitWeights(folder, m); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}
