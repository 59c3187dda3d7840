package runcmd

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/notices"
	"github.com/sluice-cd/sluice/engine/notifier"
	"github.com/sluice-cd/sluice/engine/outbox"
)

// runningNotices is the loop that finds what people are told, and the sender of everything that is told.
type runningNotices struct {
	notifier *notifier.Notifier
	sender   *outbox.Sender
}

// openNotices makes both. flags: there is a flags repository, whose webhooks the sender serves too.
func openNotices(a *cli.App, cmd *cobra.Command, e *runningEngine, r engineOptions, flags bool) (*runningNotices,
	error) {
	list, err := parseReach(cmd, "webhooks-reach", r.webhooksReach)
	if err != nil {
		return nil, err
	}
	n := &runningNotices{}
	n.notifier, err = notifier.New(notifier.Options{Engine: e.Engine, Files: e.repo.Repo, Outbox: e.store,
		Records: e.store.Records(), Posted: func() { n.sender.NotifyPosted() }, Record: e.recordOutcomes,
		Log: e.log.With().Str("about", "notices").Logger()})
	if err != nil {
		return nil, err
	}
	o := outbox.Options{Store: e.store, Leads: e.Leads, Log: e.log.With().Str("about", "outbox").Logger(), Reach: list,
		Notices: outbox.NoticeOptions{Subscriptions: n.notifier.Subscriptions,
			Secret: cli.NoticeSecrets(r.noticeSecrets)}}
	if flags {
		secrets := webhookSecrets{file: r.webhookSecrets, given: a.Getenv("SLUICE_WEBHOOK_SECRETS")}
		if _, err := secrets.load(); err != nil {
			return nil, err
		}
		o.Webhooks, o.Secret = e.webhooks, secrets.secretFor
	}
	n.sender, err = outbox.New(o)
	return n, err
}

// startLoops runs both loops until ctx ends.
func (n *runningNotices) startLoops(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { return n.notifier.Run(ctx) })
	g.Go(func() error { return n.sender.Run(ctx) })
}

// recordOutcomes commits, in the engine's name, what came of notices to cells' customers. It decides on the commit that
// the engine acted on last; after a lost race it waits until the engine has read the one that won.
func (e *runningEngine) recordOutcomes(ctx context.Context, all []notices.Outcome) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var record edits.NotifyAll
	for _, o := range all {
		record = append(record, edits.NotifyInfrastructure{Cell: o.Cell, Number: o.Number, By: o.By, At: o.Delivered,
			Undelivered: o.Delivered.IsZero()})
	}
	changed := e.Changed()
	p := edits.Pusher[*edits.Releases]{
		Repo: e.repo.CommitterAs(e.identity.Person, e.identity.Signer), Address: e.repo.Address,
		By: edits.Person{Person: e.identity.Person, Key: e.identity.Signer.Key.PublicKey()},
		ReadSnapshot: func(context.Context) (*edits.Releases, error) {
			changed = e.Changed()
			v := e.View()
			if v == nil {
				return nil, errors.New("the release repository was not read yet")
			}
			files, err := e.repo.FS(v.Desired.Commit)
			return &edits.Releases{Files: files, Desired: v.Desired}, err
		},
		Pause: func(ctx context.Context, _ int) error {
			e.NotifyPush()
			select {
			case <-changed:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	}
	done, err := p.Push(ctx, record)
	if err == nil && done.Commit != "" {
		e.log.Info().Str("commit", done.Commit).Int("cells", len(all)).Msg("what customers were told is recorded")
		e.NotifyPush()
	}
	return err
}
