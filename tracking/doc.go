// Package tracking keeps every training run in one SQLite file and answers
// questions about them afterwards.
//
// [Open] opens a [Store] by path. A training process registers itself with
// [Store.StartRun], queues its metrics with [Run.Log], and ends with
// [Run.Finish]; a goroutine of the run writes the queue in batches. Any number of
// processes may write to one store at once while others read it.
//
// People query the tables too: migrations/0001_runs.sql documents the columns of
// runs and of the views settings, metrics, latest, tags and events.
//
// A process may die without recording its end. Readers check whether the process
// of a running run still exists (see liveness.go) and report a crash if not.
package tracking
