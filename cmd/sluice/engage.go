package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/releases"
)

// running is what serve and tick are told.
type running struct {
	secret string // file
	poll   time.Duration
	author string
	key    string
	level  string

	webhookSecrets string // file
}

func (r *running) engineFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.author, "author", "Sluice <sluice@localhost>", "in whose name promotions are committed")
	f.StringVar(&r.key, "signing-key", "", "`FILE` of a private SSH key that signs promotions")
	f.StringVar(&r.level, "log", "info", "log level: debug, info, warn, error")
	f.StringVar(&r.webhookSecrets, "webhook-secrets-file", "", "`FILE` of lines NAME whsec_BASE64: what messages to webhooks are signed with (default $SLUICE_WEBHOOK_SECRETS)")
}

const missingData = "--data, the folder for the mirror and the store, is missing"

// engaged is an engine with what it works on. Close it.
type engaged struct {
	*engine.Engine
	repo  *opened
	store keeps
	as    committer
	log   zerolog.Logger
}

func (e *engaged) Close() error {
	e.repo.Close()
	return e.store.Close()
}

// engage opens what the engine works on.
func (a *app) engage(ctx context.Context, cmd *cobra.Command, r running) (*engaged, error) {
	if a.data == "" {
		return nil, usage(cmd, missingData)
	}
	level, err := zerolog.ParseLevel(r.level)
	if err != nil {
		return nil, usage(cmd, "--log %q is none of debug, info, warn, error", r.level)
	}
	log := a.logger().Level(level)
	as := committer{}
	name, rest, ok := strings.Cut(r.author, " <")
	mail, closed := strings.CutSuffix(rest, ">")
	if as.person = (releases.Person{Name: name, Email: mail}); !ok || !closed || name == "" {
		return nil, usage(cmd, "--author %q is not of the form Name <address>", r.author)
	}
	if r.key != "" {
		signer, err := gitrepo.LoadSigner(r.key)
		if err != nil {
			return nil, err
		}
		as.signer = &signer
	}
	st, err := a.openStore(ctx, log)
	if err != nil {
		return nil, err
	}
	repo, err := a.open(ctx, cmd, as)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	if err := repo.peek(ctx); err != nil {
		repo.Close()
		return nil, errors.Join(err, st.Close())
	}
	e, err := engine.New(ctx, repo.Repo, st, engine.Options{Log: log, Probe: engine.HTTPProber{}, Poll: r.poll, Keep: filepath.Join(a.data, keptFile)})
	if err != nil {
		repo.Close()
		return nil, errors.Join(err, st.Close())
	}
	return &engaged{Engine: e, repo: repo, store: st, as: as, log: log}, nil
}
