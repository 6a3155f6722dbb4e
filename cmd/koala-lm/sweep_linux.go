package main

import "syscall"

// childOfSweep keeps a terminal's Ctrl-C from the child, which the sweep passes
// on itself, once; and interrupts the child when the sweep is killed.
func childOfSweep() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
}
