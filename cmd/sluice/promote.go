package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/engine/view"
)

func (a *app) promoteVerb() *cobra.Command {
	var to, reason string
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:     "promote V --to CHANNEL | CHANNEL V",
		GroupID: groupDecide,
		Short:   "Ask for a release in a channel",
		Long: `Commits a request: head.yaml of the channel with another release, and nothing else changed. The engine answers it
with a promotion of its own that names you, or with a verdict. Gates bind requests too, unless the channel says
"people: free". With --wait it shows how the verdicts change until the engine answered; exit 3 if that takes longer than
--timeout. Verdicts that rest on cells' reports need --server or --data.`,
		Example: `  sluice promote 2026.11.3 --to dedicated
  sluice promote dedicated 2026.11.3 --wait --server http://127.0.0.1:7600`,
		Args: arguments(1, 2, "the release's version"),
		RunE: func(cmd *cobra.Command, args []string) error {
			channel, version := to, args[0]
			switch {
			case to != "" && len(args) == 2:
				return usage(cmd, "name the channel once: --to %s or %s", to, args[0])
			case len(args) == 2:
				channel, version = args[0], args[1]
			case to == "":
				return usage(cmd, "the channel is missing")
			}
			return a.promote(cmd, channel, version, reason, wait, timeout)
		},
	}
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "the `CHANNEL`")
	f.StringVar(&reason, "reason", "", "why, for the commit")
	f.BoolVar(&wait, "wait", false, "wait for the engine's answer")
	f.DurationVar(&timeout, "timeout", 10*time.Minute, "how long to wait")
	a.serverFlag(cmd)
	return cmd
}

func (a *app) promote(cmd *cobra.Command, channel, version, reason string, wait bool, timeout time.Duration) error {
	ctx := cmd.Context()
	c := change{what: fmt.Sprintf("promote %s to %s", version, channel), body: reason}
	repo, err := a.openAs(cmd, c)
	if err != nil {
		return wrapFailure(c.what, err)
	}
	defer repo.Close()
	commit, err := a.push(ctx, repo, c, func(s *snapshot) (map[string][]byte, error) {
		return requestHead(s, channel, version)
	})
	unchanged := errors.Is(err, errUnchanged)
	switch {
	case unchanged && !wait:
		return a.wrote(written{Did: c.what + ": it is the head, or asked for, already"})
	case err != nil && !unchanged:
		return err
	case !wait:
		return a.wrote(written{Commit: commit, Did: "ask to " + c.what, Next: "the engine answers; sluice why " + channel + " tells what it waits for"})
	}
	return a.await(ctx, repo, c.what, channel, version, timeout)
}

// requestHead is the edit that asks for a release: only release: changes (R1).
func requestHead(s *snapshot, channel, version string) (map[string][]byte, error) {
	c, err := s.channel(channel)
	if err != nil {
		return nil, err
	}
	if _, err := s.release(version); err != nil {
		return nil, err
	}
	if c.Request != nil && c.Request.Release == version || c.Request == nil && c.Effective != nil && c.Effective.Release == version {
		return nil, errUnchanged
	}
	return withRelease(s, channel, version)
}

var releaseLine = regexp.MustCompile(`(?m)^release:.*$`)

func withRelease(s *snapshot, channel, version string) (map[string][]byte, error) {
	file := path.Join(channels.Dir, channel, "head.yaml")
	old, err := fs.ReadFile(s.files, file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	line := "release: " + version
	text := releaseLine.ReplaceAllLiteralString(string(old), line)
	if !releaseLine.MatchString(text) {
		text = line + "\n" + text
	}
	return map[string][]byte{file: []byte(text)}, nil
}

// await shows how a request fares until the engine answered it.
func (a *app) await(ctx context.Context, repo *opened, what, channel, version string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	last := ""
	for {
		s, err := repo.snapshot(ctx)
		if err == nil {
			c, err := s.channel(channel)
			if err != nil {
				return wrapFailure(what, err)
			}
			if e := c.Effective; e != nil && e.Release == version {
				return a.wrote(written{Commit: e.Written, Did: what})
			}
			if c.Request == nil || c.Request.Release != version {
				return blocked(fmt.Errorf("%s: it is no longer asked for", what), "sluice log %s tells what happened", channel)
			}
			if now := a.waitingFor(ctx, repo, channel, version); now != last && ctx.Err() == nil {
				last = now
				a.stderr.line("%s %s", a.stderr.paint(faint, time.Now().Format(time.TimeOnly)), last)
			}
		} else if ctx.Err() == nil {
			a.stderr.line("%v", err) // the host may be back in a moment
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return blocked(fmt.Errorf("%s: not answered within %s: %s", what, span(timeout), orDash(last)), "sluice why %s; the request stands", channel)
			}
			return ctx.Err()
		case <-time.After(a.pace(repo)):
		}
	}
}

// pace is how often the repository is looked at while somebody waits.
func (a *app) pace(repo *opened) time.Duration {
	if isRemote(repo.address) {
		return 3 * time.Second
	}
	return 200 * time.Millisecond
}

// waitingFor says which verdicts stand between a channel and a release, as far as what was observed is known here.
func (a *app) waitingFor(ctx context.Context, repo *opened, channel, version string) string {
	const unknown = "waits for the engine (--server or --data would tell for what)"
	if !a.asksServer() && a.data == "" {
		return unknown
	}
	s, err := a.status(ctx, nil, &repo, view.StatusPage{Channel: channel})
	if err != nil {
		return err.Error()
	}
	var gates []string
	for _, c := range s.Channels {
		for _, b := range c.Blocked {
			if c.Name == channel && (b.Release == version || b.Release == "") && !slices.Contains(gates, b.String()) {
				gates = append(gates, b.String())
			}
		}
	}
	if len(gates) == 0 {
		return "waits for the engine"
	}
	return strings.Join(gates, "; ")
}
