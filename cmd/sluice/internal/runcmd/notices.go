package runcmd

import (
	"context"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/cmd/sluice/internal/cli"
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
		Records: e.store.Records(), Posted: func() { n.sender.NotifyPosted() },
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
