package ranks

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// from reads variables, and a rendezvous file as if it were one: FILE.
func from(vars string) (*Place, error) {
	env := map[string]string{}
	for _, v := range strings.Fields(vars) {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	return FromEnvironment(func(name string) string { return env[name] }, env["FILE"])
}

func TestFromEnvironment(t *testing.T) {
	for vars, want := range map[string]*Place{
		"":                                  nil,
		"RANK=3":                            nil,
		"RANK=0 WORLD_SIZE=1 MASTER_ADDR=a": nil,
		"RANK=3 WORLD_SIZE=4 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=7": {
			Rank: 3, Size: 4, Local: 1, LocalSize: 2, Host: "a", Port: 7},
		"RANK=1 WORLD_SIZE=2 MASTER_ADDR=a": {Rank: 1, Size: 2, Host: "a", Port: 29500},
		"RANK=1 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=7 TORCHELASTIC_USE_AGENT_STORE=True TORCHELASTIC_RESTART_COUNT=2": {
			Rank: 1, Size: 2, Host: "a", Port: 7, Served: true, Prefix: "/koala-lm/attempt_2"},
		"SLURM_PROCID=5 SLURM_STEP_NUM_TASKS=8 SLURM_LOCALID=1 SLURM_STEP_TASKS_PER_NODE=4(x2) SLURM_STEP_NODELIST=node[03-04] SLURM_JOB_ID=30012 SLURM_STEP_ID=2": {
			Rank: 5, Size: 8, Local: 1, LocalSize: 4, Host: "node03", Port: 20014},
		"SLURM_PROCID=1 SLURM_NTASKS=2 SLURM_LOCALID=1 MASTER_ADDR=b MASTER_PORT=9": {Rank: 1, Size: 2, Local: 1, Host: "b", Port: 9},
		// A batch job's shell, from which nothing was started by srun.
		"SLURM_PROCID=0 SLURM_NTASKS=8 SLURM_JOB_NODELIST=a,b": nil,
		// What a rendezvous file tells is not needed, and MASTER_ADDR alone counts.
		"FILE=/f RANK=1 WORLD_SIZE=2":               {Rank: 1, Size: 2, File: "/f"},
		"FILE=/f RANK=1 WORLD_SIZE=1":               nil,
		"FILE=/f RANK=0 WORLD_SIZE=2 MASTER_ADDR=a": {Size: 2, Host: "a", File: "/f"},
		"FILE=/f RANK=1 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=7 TORCHELASTIC_USE_AGENT_STORE=True": {
			Rank: 1, Size: 2, Host: "a", File: "/f"},
		"FILE=/f SLURM_PROCID=5 SLURM_STEP_NUM_TASKS=8 SLURM_LOCALID=1 SLURM_STEP_NODELIST=node[03-04] SLURM_JOB_ID=30012": {
			Rank: 5, Size: 8, Local: 1, File: "/f"},
	} {
		got, err := from(vars)
		if err != nil {
			t.Errorf("%s: %v", vars, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", vars, diff)
		}
	}
}

func TestFromEnvironmentRefuses(t *testing.T) {
	for vars, want := range map[string]string{
		"RANK=x WORLD_SIZE=2 MASTER_ADDR=a":                `RANK is "x"`,
		"RANK=1 WORLD_SIZE=-2 MASTER_ADDR=a":               `WORLD_SIZE is "-2"`,
		"RANK=2 WORLD_SIZE=2 MASTER_ADDR=a":                "rank 2 of 2",
		"RANK=1 WORLD_SIZE=2":                              "MASTER_ADDR is not set",
		"RANK=1 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=0":  "MASTER_PORT is 0",
		"SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2":            "MASTER_ADDR is not set",
		"RANK=1 WORLD_SIZE=2 MASTER_ADDR=a LOCAL_RANK=one": `LOCAL_RANK is "one"`,
		"FILE=/f":                     "set RANK and WORLD_SIZE",
		"FILE=/f RANK=2 WORLD_SIZE=2": "rank 2 of 2",
	} {
		if p, err := from(vars); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want %q", vars, p, err, want)
		}
	}
}

func TestFirstHost(t *testing.T) {
	for list, want := range map[string]string{
		"":                     "",
		"a":                    "a",
		"a,b":                  "a",
		"node[03-05,9],other":  "node03",
		"node[7,9]":            "node7",
		"n[1-2]-eth0,x":        "n1-eth0",
		"rack[1-2]node[10-20]": "rack1node10",
		"login,node[1-4]":      "login",
	} {
		if got := firstHost(list); got != want {
			t.Errorf("%s: %q, want %q", list, got, want)
		}
	}
}
