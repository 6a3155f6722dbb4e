package tracking

import (
	"sync"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/koala-lm/koala-lm/metric"
	"github.com/koala-lm/koala-lm/tracking/environment"
)

// Status is the state of a run.
type Status string

const (
	Running     Status = "running"
	Finished    Status = "finished"
	Interrupted Status = "interrupted" // stopped on request, saved, resumable
	Failed      Status = "failed"      // ended with an error that it reported
	Crashed     Status = "crashed"     // its process disappeared
)

// Statuses lists every status, the good ones first.
var Statuses = []Status{Finished, Running, Interrupted, Failed, Crashed}

// DivergedReason begins the reason of a run that failed because its loss was not
// finite for too long.
const DivergedReason = "training diverged"

// A live run writes a heartbeat every HeartbeatEvery. A reader on another host
// takes a run for crashed once its heartbeat is older than HeartbeatStale.
const (
	HeartbeatEvery = 5 * time.Second
	HeartbeatStale = time.Minute
)

// HigherIsBetter reports whether the best value of a metric is its highest.
func HigherIsBetter(name string) bool { return name == metric.TokensPerSecond }

// timeLayout is RFC 3339 with a fixed width, so that text sorts as time does.
const timeLayout = "2006-01-02T15:04:05.000Z"

func formatTime(t time.Time) string { return t.UTC().Format(timeLayout) }

// parseTime reads the output of formatTime; any other text gives the zero time.
func parseTime(s string) time.Time {
	t, err := time.Parse(timeLayout, s)
	if err != nil {
		return time.Time{}
	}
	return t
}

// isDead decides whether a run recorded as running has crashed: on its own host
// by its process, elsewhere by the age of its heartbeat. The distance of a heartbeat
// in the future counts too: it means that the clock was set back, and a live run
// soon writes another heartbeat.
func isDead(observer *environment.Observer, p environment.Process, heartbeat, now time.Time) bool {
	switch observer.Look(p) {
	case environment.Alive:
		return false
	case environment.Gone:
		return true
	}
	return now.Sub(heartbeat).Abs() > HeartbeatStale
}

var thisHost = sync.OnceValue(environment.NewObserver)

// registerFunctions adds is_dead(host, boot, pid_namespace, pid, process_start,
// heartbeat) to a connection, for the view observed_runs, and duration_seconds(text)
// for filters.
func registerFunctions(conn *sqlite3.SQLiteConn) error {
	err := conn.RegisterFunc("duration_seconds", func(value any) any {
		text, _ := value.(string)
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil
		}
		return d.Seconds()
	}, true)
	if err != nil {
		return err
	}
	return conn.RegisterFunc("is_dead", func(host, boot, namespace string, pid, start int64, heartbeat string) bool {
		p := environment.Process{Host: host, Boot: boot, Namespace: namespace, PID: int(pid), Start: start}
		return isDead(thisHost(), p, parseTime(heartbeat), time.Now())
	}, false)
}
