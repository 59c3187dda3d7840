package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/cells/agent/render"
	"github.com/sluice-cd/sluice/cells/directory"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/child"
)

// TestMain lets the test binary act as a render child, a hook's client, or an agent that can be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "render":
			os.Exit(render.Main(os.Stdin, os.Stdout, os.Stderr))
		case "agent":
			os.Exit(runAgent(os.Args[2]))
		case "ask": // evaluates a flag over a socket, as a hook may
			fmt.Println(newFlagsClient(os.Args[2]).evaluateFlag(os.Args[3]))
			os.Exit(0)
		}
	}
	os.Exit(child.Run(m, (*testing.M).Run))
}

// settings configure an agent, also in a process of its own.
type settings struct {
	Cell, Server, State, Dir, Hook, Health string
	Join                                   string // a token
	HealthTimeout, HealthyFor, HealEvery   time.Duration
	KillAt                                 string // test point at which the process is killed
	KillAfter                              int    // times that it was there before
	Tag                                    string // the version in reports, and TAG in commands' environments
	Flags                                  string // address of the flags
	Log                                    bool
	TrustRoot                              releases.Digest
	Skew                                   time.Duration // how far the wall clock is set ahead
	Boot                                   string        // identifies the machine's start; empty: the real one
}

func (s settings) options() (Options, error) {
	target, err := directory.New(s.Dir, directory.Options{Cell: s.Cell, Hook: s.Hook, Health: s.Health})
	if err != nil {
		return Options{}, err
	}
	self, err := child.Program()
	o := Options{
		Cell: s.Cell, Server: s.Server, StateDir: s.State, Target: target, Version: cmp.Or(s.Tag, "test"),
		FlagsListen: s.Flags, TrustRoot: s.TrustRoot,
		Render: agenttest.RenderCommand(self), HealthTimeout: s.HealthTimeout, HealthyFor: s.HealthyFor,
		HealthInterval: 50 * time.Millisecond, HealInterval: 50 * time.Millisecond, ReportEvery: 100 * time.Millisecond,
		machine: clock.Machine{Skew: s.Skew, Start: s.Boot},
	}
	if s.Join != "" {
		token, err := identity.ParseToken(s.Join)
		if err != nil {
			return Options{}, err
		}
		o.Join = &token
	}
	if s.Log {
		o.Log = zerolog.New(os.Stderr)
	}
	return o, err
}

func runAgent(text string) int {
	var s settings
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	o, err := s.options()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	a, err := New(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if err := os.Setenv("TAG", s.Tag); err != nil {
		return 2
	}
	var passed atomic.Int32
	a.onTestPoint = func(point string) {
		if point == s.KillAt && int(passed.Add(1)) > s.KillAfter {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until the signal arrives
		}
	}
	if err := a.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
