//go:build race

package koala

// raceEnabled shortens what the race detector makes slow.
const raceEnabled = true
