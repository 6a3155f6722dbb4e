package environment

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// from reads variables, and a rendezvous file as if it were one: FILE.
func from(vars string) (*Rank, error) {
	env := map[string]string{}
	for _, v := range strings.Fields(vars) {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	return FromVariables(func(name string) string { return env[name] }, env["FILE"])
}

func TestFromVariables(t *testing.T) {
	for vars, want := range map[string]*Rank{
		"":                                  nil,
		"RANK=3":                            nil,
		"RANK=0 WORLD_SIZE=1 MASTER_ADDR=a": nil,
		"RANK=3 WORLD_SIZE=4 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=7": {
			Rank: 3, WorldSize: 4, LocalRank: 1, LocalWorldSize: 2, MasterAddr: "a", MasterPort: 7},
		"RANK=1 WORLD_SIZE=2 MASTER_ADDR=a": {Rank: 1, WorldSize: 2, MasterAddr: "a", MasterPort: 29500},
		"RANK=1 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=7 TORCHELASTIC_USE_AGENT_STORE=True TORCHELASTIC_RESTART_COUNT=2": {
			Rank: 1, WorldSize: 2, MasterAddr: "a", MasterPort: 7, AgentStore: true, Prefix: "/koala-lm/attempt_2"},
		"SLURM_PROCID=5 SLURM_STEP_NUM_TASKS=8 SLURM_LOCALID=1 SLURM_STEP_TASKS_PER_NODE=4(x2) SLURM_STEP_NODELIST=node[03-04] SLURM_JOB_ID=30012 SLURM_STEP_ID=2": {
			Rank: 5, WorldSize: 8, LocalRank: 1, LocalWorldSize: 4, MasterAddr: "node03", MasterPort: 20014},
		"SLURM_PROCID=1 SLURM_NTASKS=2 SLURM_LOCALID=1 MASTER_ADDR=b MASTER_PORT=9": {Rank: 1, WorldSize: 2, LocalRank: 1, MasterAddr: "b", MasterPort: 9},
		// A batch job's shell, from which nothing was started by srun.
		"SLURM_PROCID=0 SLURM_NTASKS=8 SLURM_JOB_NODELIST=a,b": nil,
		// What a rendezvous file tells is not needed, and MASTER_ADDR alone counts.
		"FILE=/f RANK=1 WORLD_SIZE=2":               {Rank: 1, WorldSize: 2, RendezvousFile: "/f"},
		"FILE=/f RANK=1 WORLD_SIZE=1":               nil,
		"FILE=/f RANK=0 WORLD_SIZE=2 MASTER_ADDR=a": {WorldSize: 2, MasterAddr: "a", RendezvousFile: "/f"},
		"FILE=/f RANK=1 WORLD_SIZE=2 MASTER_ADDR=a MASTER_PORT=7 TORCHELASTIC_USE_AGENT_STORE=True": {
			Rank: 1, WorldSize: 2, MasterAddr: "a", RendezvousFile: "/f"},
		"FILE=/f SLURM_PROCID=5 SLURM_STEP_NUM_TASKS=8 SLURM_LOCALID=1 SLURM_STEP_NODELIST=node[03-04] SLURM_JOB_ID=30012": {
			Rank: 5, WorldSize: 8, LocalRank: 1, RendezvousFile: "/f"},
	} {
		t.Run(vars, func(t *testing.T) {
			got, err := from(vars)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFromVariablesRefuses(t *testing.T) {
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
		t.Run(vars, func(t *testing.T) {
			if r, err := from(vars); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, %v; want %q", r, err, want)
			}
		})
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
