package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/cmd/internal/agentcmd"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
)

// sluice runs the command, and returns its exit code and what it printed.
func sluice(t *testing.T, env []string, args ...string) (int, string) {
	t.Helper()
	var said bytes.Buffer
	code := run(t.Context(), args, env, strings.NewReader(""), &said, &said)
	return code, said.String()
}

// The verbs of a cell are there, and a verb of the vendor is refused as one that there is not.
func TestVerbs(t *testing.T) {
	t.Parallel()
	for _, line := range []string{"agent", "agent preflight", "agent guard", "agent manifest", "node", "version",
		"cell owner", "cell pause", "cell unpause", "cell pin", "cell unpin", "cell window add",
		"cell approval require", "cell approve", "cell diff", "cell feature hold", "cell flags", "cell clock",
		"cell maintenance", "cell export", "cell debug approve", "cell ui", "cell verify", "cell retry"} {
		verb, _, err := root(cli.NewApp(nil, nil, io.Discard, io.Discard)).Find(strings.Fields(line))
		if err != nil || verb.CommandPath() != "sluice "+line {
			t.Errorf("%s: %v, %v", line, verb.CommandPath(), err)
		}
	}
	for _, line := range []string{"serve", "promote staging", "cell add acme", "status"} {
		if code, said := sluice(t, nil, strings.Fields(line)...); code != cli.ExitUsage ||
			!strings.Contains(said, "there is no command") {
			t.Errorf("%s: exit %d, %s", line, code, said)
		}
	}
}

// The owner's decisions are those of the whole command: what one program wrote, the other reads.
func TestOwnersDecision(t *testing.T) {
	t.Parallel()
	env := []string{"SLUICE_STATE=" + t.TempDir()}
	for _, c := range [][2]string{
		{"cell pause --reason quarter-end", "paused"},
		{"cell owner", "quarter-end"},
		{"cell window add --opens 0 --for 4h", "--opens"},
		{"cell retry", "has not failed here"},
	} {
		if _, said := sluice(t, env, strings.Fields(c[0])...); !strings.Contains(said, c[1]) {
			t.Errorf("%s: %s", c[0], said)
		}
	}
}

// The agent's children are run before the tree of verbs is built.
func TestChildren(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	for _, verb := range []string{"supervise", "enclose"} {
		if code, ok := agentcmd.RunChild([]string{verb}, strings.NewReader(""), &said, &said); !ok || code == 0 {
			t.Errorf("%s: exit %d, %t", verb, code, ok)
		}
	}
	if _, ok := agentcmd.RunChild([]string{"cell", "owner"}, strings.NewReader(""), &said, &said); ok {
		t.Error("a verb was taken for a child of the agent")
	}
	if code := run(context.Background(), []string{"supervise"}, nil, nil, &said, &said); code == 0 ||
		!strings.Contains(said.String(), "GRACE and COMMAND are missing") {
		t.Errorf("exit %d: %s", code, said.String())
	}
}
