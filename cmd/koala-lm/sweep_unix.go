//go:build unix && !linux

package main

import "syscall"

// childOfSweep keeps a terminal's Ctrl-C from the child, which the sweep passes
// on itself, once.
func childOfSweep() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
