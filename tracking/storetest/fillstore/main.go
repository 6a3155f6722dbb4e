// Command fillstore makes a large store, to measure the speed of reports:
//
//	go run ./tracking/storetest/fillstore --runs 10000 --points 1000 large.db
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/koala-lm/koala-lm/tracking"
	"github.com/koala-lm/koala-lm/tracking/storetest"
)

func main() {
	runs := flag.Int("runs", 10_000, "how many runs")
	points := flag.Int("points", 1_000, "how many points in each")
	flag.Parse()
	if err := fill(flag.Arg(0), *runs, *points); err != nil {
		fmt.Fprintln(os.Stderr, "fillstore:", err)
		os.Exit(1)
	}
}

func fill(path string, runs, points int) (err error) {
	if path == "" {
		return errors.New("name the file to make")
	}
	store, err := tracking.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return storetest.FillLarge(context.Background(), store, runs, points)
}
