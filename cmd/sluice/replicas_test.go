package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sluice-cd/sluice/test/postgres"
)

// TestReplicas runs testdata/postgres/*.txtar: several control planes with one database, which is empty for
// each script.
func TestReplicas(t *testing.T) {
	database := postgres.NewServer(t, postgres.Options{}).URL("postgres")
	testscript.Run(t, testscript.Params{
		Dir: "testdata/postgres", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			empty, err := postgres.Create(t.Context(), database)
			if err != nil {
				return err
			}
			env.Setenv("SLUICE_DATABASE", empty)
			return setup(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "eventually": eventually},
	})
}
