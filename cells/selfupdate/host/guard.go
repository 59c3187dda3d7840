package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/process"
	"github.com/sluice-cd/sluice/cells/selfupdate"
	"github.com/sluice-cd/sluice/internal/backoff"
)

// GuardOptions configure a Guard. Fields without a default are required.
type GuardOptions struct {
	Dir            string        // of the update, in the state folder; it need not be there
	Program        string        // the installed one
	Args           []string      // of the agent
	Env            []string      // of the agent
	Stdout, Stderr io.Writer     // of the agent
	Limit          time.Duration // for a new agent to report; default 10m
	Every          time.Duration // between looks at the record, and which agent is to run; default 2s
	Hold           time.Duration // the one before stays for so long, if one can't be started; default 5m
	Log            zerolog.Logger
}

// Guard runs the agent of a machine as its child, and puts the one before back if a new one does not report.
type Guard struct {
	options GuardOptions
	files   files
	part    *selfupdate.Part
	running atomic.Pointer[string] // the image that runs; empty: none
	faulty  string                 // an image whose program could not be started; Run sets it while no agent runs
}

const stopGrace = 50 * time.Second // for an agent and its hook to end

var errReplaced = errors.New("another agent is to run")

// NewGuard returns a guard, and starts nothing.
func NewGuard(o GuardOptions) *Guard {
	o.Every, o.Hold = cmp.Or(o.Every, 2*time.Second), cmp.Or(o.Hold, 5*time.Minute)
	g := &Guard{options: o, files: files{o.Dir}}
	g.running.Store(new(string))
	g.part = selfupdate.New(selfupdate.Options{Part: selfupdate.Guard, Dir: o.Dir, Limit: o.Limit, Every: o.Every,
		Log: o.Log, Workload: &Machine{g.files, func() string { return *g.running.Load() }}})
	return g
}

// Run runs the agent until ctx ends, and then returns nil. If the agent ends by itself, so does Run, with the agent's
// error, unless that agent is new: then it is started again, and at last the one before.
func (g *Guard) Run(ctx context.Context) error {
	if err := g.mend(); err != nil {
		return fmt.Errorf("guard of the agent: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		g.part.Run(ctx)
	}()
	defer func() {
		cancel()
		<-watched
	}()
	for {
		image, program, trial, hold := g.next()
		err := g.runAgent(ctx, image, program, hold)
		if image != Installed && !trial && isStartFault(err) {
			g.options.Log.Error().Err(err).Str("image", image).Msg("this agent can't be started, and the installed " +
				"one runs until it can: the file system of the state folder must allow programs (no noexec), and the " +
				"program must be for this machine; a release may also name another agent")
			g.faulty = image
			image = Installed
			err = g.runAgent(ctx, image, g.options.Program, g.options.Hold)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errReplaced):
			g.options.Log.Info().Str("image", image).Msg("the agent is replaced")
		case trial && g.part.Watched(image):
			g.options.Log.Warn().Err(err).Str("image", image).Msg("the new agent ended by itself, and is started again")
			if backoff.Sleep(ctx, 2*g.options.Every) != nil {
				return nil
			}
		default:
			return err
		}
	}
}

// isStartFault reports whether an agent ended by an error because the operating system did not start it at all.
func isStartFault(err error) bool {
	fault, ok := errors.AsType[*fs.PathError](err)
	return ok && fault.Op == "fork/exec"
}

// mend puts aside what is damaged, and forgets what a release chose before the owner replaced the installed program.
// The installed program runs then.
func (g *Guard) mend() error {
	damaged := g.part.PutAsideDamaged()
	if _, err := g.files.chosen(); err != nil {
		aside, asideErr := disk.PutAside(g.files.path(chosenName), time.Now())
		g.options.Log.Warn().Err(errors.Join(err, asideErr)).Str("file", aside).Msg("the installed agent runs")
	}
	if damaged { // whether what is chosen ever worked is not known
		return g.files.choose(Installed)
	}
	before, err := disk.ReadLimited(g.files.path(installedName), maxSmallFile)
	if errors.Is(err, fs.ErrNotExist) { // no other was ever started
		return nil
	}
	is, sumErr := sumOf(g.options.Program)
	if err := errors.Join(err, sumErr); err != nil || is == string(before) {
		return err
	}
	g.options.Log.Warn().Msg("the installed agent was replaced, and runs: what a release chose before does not count")
	return errors.Join(g.files.choose(Installed), g.part.Forget(), g.files.remove(installedName))
}

// next returns what to start, and counts that. trial says that it is new. hold is how long it runs whatever is chosen.
func (g *Guard) next() (image, program string, trial bool, hold time.Duration) {
	chosen, err := g.files.chosen()
	if err == nil {
		if image, trial, err = g.part.Start(chosen); err != nil {
			hold = g.options.Hold
		}
	}
	if err == nil && image == Installed {
		return image, g.options.Program, false, 0
	}
	if image != "" && image != Installed {
		name, damaged := g.files.verified(image)
		err = errors.Join(err, damaged, g.noteInstalled())
		if damaged == nil {
			if err != nil {
				g.options.Log.Error().Err(err).Str("image", image).Msg("this agent is started all the same")
			}
			return image, name, trial, hold
		}
		if !trial { // it was proven once, so nothing else puts it back
			err = errors.Join(err, g.files.choose(Installed))
		}
	}
	g.options.Log.Error().Err(err).Str("image", image).Msg("this agent can't be started: the installed one runs")
	return Installed, g.options.Program, false, g.options.Hold
}

// noteInstalled notes which program is installed, before another is started.
func (g *Guard) noteInstalled() error {
	if _, err := os.Stat(g.files.path(installedName)); err == nil {
		return nil
	}
	is, err := sumOf(g.options.Program)
	if err == nil {
		err = disk.ReplaceFile(filepath.Join(g.files.dir, installedName), []byte(is))
	}
	return err
}

// runAgent runs an agent until it ends, or another one is to run, which it does not look for before hold is over. One
// that could not be started is tried first, or each try would end the agent that runs.
func (g *Guard) runAgent(ctx context.Context, image, program string, hold time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	g.running.Store(&image)
	looking := make(chan struct{})
	go func() {
		defer close(looking)
		for pause := max(hold, g.options.Every); backoff.Sleep(ctx, pause) == nil; {
			pause = g.options.Every
			wanted, err := g.wanted()
			switch {
			case err != nil || wanted == image:
			case wanted == g.faulty && g.files.try(ctx, wanted) != nil:
				pause = g.options.Hold
			default:
				cancel(errReplaced)
			}
		}
	}()
	err := process.Child{
		Args: append([]string{program}, g.options.Args...), Env: append(g.options.Env, RunningVariable+"="+image),
		Stdout: g.options.Stdout, Stderr: g.options.Stderr, Grace: stopGrace,
	}.Run(ctx)
	if cause := context.Cause(ctx); cause != nil { // it may have ended well
		err = cause
	}
	cancel(nil)
	<-looking
	g.running.Store(new(string))
	return err
}

// wanted returns the image that is to run.
func (g *Guard) wanted() (string, error) {
	chosen, err := g.files.chosen()
	if err != nil {
		return "", err
	}
	return g.part.Chosen(chosen)
}
