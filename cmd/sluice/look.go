package main

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/view"
)

// serverFlag adds --server to a verb that can ask a running control plane.
func (a *app) serverFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.server, "server", "", "ask this control plane: http://HOST:PORT, unix:///PATH, or https://HOST:PORT with a token in $SLUICE_TOKEN (default $SLUICE_SERVER; without, --repo and --data are read)")
}

// asksServer tells whether a control plane is to be asked. A repository or data folder named by a flag goes before the environment.
func (a *app) asksServer() bool {
	if a.server == "" && a.repo == "" && a.data == "" && a.database == "" {
		a.server = a.getenv("SLUICE_SERVER")
	}
	return a.server != ""
}

// view decides as the engine would now, from the repository and the store in --data.
func (a *app) view(ctx context.Context, repo *opened) (*view.View, error) {
	s, err := repo.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	observed, err := a.observed(ctx, "")
	if err != nil {
		return nil, err
	}
	return &view.View{Desired: s.desired, Observed: &observed, Plan: plan.Make(s.desired, &observed, time.Now().UTC())}, nil
}

// status tells where everything is: as the control plane knows it, or as the repository and the store say.
func (a *app) status(ctx context.Context, cmd *cobra.Command, repo **opened, page view.StatusPage) (view.Status, error) {
	if a.asksServer() {
		return a.serverStatus(ctx, page)
	}
	if *repo == nil {
		r, err := a.open(ctx, cmd, committer{})
		if err != nil {
			return view.Status{}, err
		}
		*repo = r
	}
	v, err := a.view(ctx, *repo)
	if err != nil {
		return view.Status{}, err
	}
	return view.StatusOf(v, page), nil
}

// serverStatus reads all pages.
func (a *app) serverStatus(ctx context.Context, page view.StatusPage) (view.Status, error) {
	var all view.Status
	for {
		q := url.Values{}
		if page.Channel != "" {
			q.Set("channel", page.Channel)
		}
		if page.After != "" {
			q.Set("after", page.After)
		}
		var s view.Status
		if err := a.ask(ctx, "/v1/status?"+q.Encode(), &s); err != nil {
			return all, err
		}
		cells := append(all.Cells, s.Cells...)
		all = s
		all.Cells = cells
		if s.Next == "" {
			return all, nil
		}
		page.After = s.Next
	}
}

// errNotFound: nothing has that name.
var errNotFound = errors.New("neither a cell nor a channel has that name")
