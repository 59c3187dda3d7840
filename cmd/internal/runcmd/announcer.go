package runcmd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/announcer"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/outbox"
	"github.com/sluice-cd/sluice/flags/repository"
)

// runningAnnouncer is the announcer with its repository. The caller closes it.
type runningAnnouncer struct {
	*announcer.Announcer
	repo *repos.OpenRepository
}

func (n *runningAnnouncer) Close() {
	if n != nil {
		n.repo.Close()
	}
}

// openAnnouncer opens the flags repository that --flags-repo or $SLUICE_FLAGS_REPO names; nil: none is named,
// and no flags are served.
func openAnnouncer(a *cli.App, cmd *cobra.Command, e *runningEngine, r engineOptions) (*runningAnnouncer, error) {
	if a.FlagsRepo == "" {
		a.FlagsRepo = a.Getenv("SLUICE_FLAGS_REPO")
	}
	if a.FlagsRepo == "" {
		return nil, nil
	}
	at, err := repos.FindFlagsLocation(cmd.Context(), a, cmd)
	if err != nil {
		return nil, err
	}
	repo, err := repos.OpenLocation(cmd.Context(), a, at, e.identity)
	if err != nil {
		return nil, err
	}
	if err := repo.CheckKind(cmd.Context(), false); err != nil {
		repo.Close()
		return nil, err
	}
	repos.RecordFollowedBranch(a, cmd.Context(), repo.Location)
	n := &runningAnnouncer{repo: repo}
	log := e.log.With().Str("about", "flags").Logger()
	n.Announcer, err = announcer.New(announcer.Options{Repo: repo.Repo, Store: e.store, Engine: e.Engine, Log: log,
		Poll: r.poll})
	if err != nil {
		repo.Close()
		return nil, err
	}
	return n, nil
}

// webhooks returns the webhooks of the flags repository; ok is false until it has been read.
func (e *runningEngine) webhooks() (all []repository.Webhook, ok bool) {
	v := e.View()
	if v == nil || v.Flags == nil || v.Flags.Tip == nil {
		return nil, false
	}
	return v.Flags.Tip.Settings.Webhooks, true
}

// extendOptions adds flags to the control plane. A push hook for either repository triggers a read of both.
func (n *runningAnnouncer) extendOptions(o *controlplane.Options, e *runningEngine) {
	if n == nil {
		return
	}
	o.Flags, o.Outbox = n, e.store
	o.OnPush = func() {
		e.NotifyPush()
		n.NotifyPush()
	}
	if n.repo.Branch != o.Branch {
		o.Branch = "" // a push to any branch counts: two are of interest
	}
}

// startLoops runs the announcer until ctx ends.
func (n *runningAnnouncer) startLoops(ctx context.Context, g *errgroup.Group, log zerolog.Logger) {
	if n == nil {
		return
	}
	watch := watchPushes(ctx, n.repo, log)
	g.Go(func() error { return n.Run(ctx, watch) })
}

// webhookSecrets reads the secrets that sign messages to webhooks. The file is read each time, so that a secret
// can be replaced without a restart.
type webhookSecrets struct {
	file  string // --webhook-secrets-file; empty: none
	given string // $SLUICE_WEBHOOK_SECRETS
}

// defaultWebhook stands for all webhooks without a secret of their own.
const defaultWebhook = ""

// load returns the secrets by webhook name.
func (w webhookSecrets) load() (map[string]string, error) {
	text, from := w.given, "$SLUICE_WEBHOOK_SECRETS"
	if w.file != "" {
		data, err := cli.ReadSmallFile(w.file)
		if err != nil {
			return nil, cli.Fail(fmt.Errorf("read webhooks' secrets: %w", err),
				"--webhook-secrets-file names a file with lines of NAME whsec_…")
		}
		text, from = string(data), w.file
	}
	all := map[string]string{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		name := defaultWebhook
		if !strings.HasPrefix(words[0], "whsec_") {
			name, words = words[0], words[1:]
		}
		secrets := strings.Join(words, " ")
		if err := outbox.CheckSecret(secrets); err != nil {
			return nil, cli.Fail(fmt.Errorf("webhooks' secrets: %s:%d: %w", from, n, err),
				"a line is NAME whsec_BASE64, or whsec_BASE64 alone for all others: echo whsec_$(openssl rand "+
					"-base64 32) makes one")
		}
		all[name] = secrets
	}
	return all, nil
}

// secretFor returns the secrets of a webhook.
func (w webhookSecrets) secretFor(webhook string) (string, error) {
	all, err := w.load()
	if err != nil {
		return "", errors.New("the webhooks' secrets can't be read") // openNotices reports the details at the start
	}
	for _, name := range []string{webhook, defaultWebhook} {
		if s := all[name]; s != "" {
			return s, nil
		}
	}
	return "", errors.New("sluice serve has no secret for it: see --webhook-secrets-file")
}
