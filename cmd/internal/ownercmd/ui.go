package ownercmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/agent"
	"github.com/sluice-cd/sluice/cells/owner"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/ownerpage"
	"github.com/sluice-cd/sluice/internal/listen"
)

func cellUIVerb(a *cli.App) *cobra.Command {
	var f diffFlags
	var listen string
	cmd := &cobra.Command{
		Use: "ui", Short: "Serve a page for the cell's owner: what is offered, decisions, what runs",
		Args: cli.ArgumentCount(0, 0, ""),
		Long: `Serves a page on the cell's own machine, until it is stopped: what the vendor offers, with notes, digest and
what it would change; pause, pin, windows and approvals; what runs, and what the vendor is told. Each
decision shows the command line that does the same.

The printed address works once, and gives the browser that opens it the right to decide. With
--listen unix:///PATH whoever may open the socket may decide: its user alone, and root. From another
machine, forward a port: ssh -L 8420:PATH or -L 8420:127.0.0.1:PORT, and open localhost:8420.`,
		Example: `  sluice cell ui --state /var/lib/sluice
  sluice cell ui --state /var/lib/sluice --listen unix:///run/sluice/owner.sock`,
	}
	folder := addStateFlags(a, cmd)
	f.add(cmd)
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "`ADDRESS` of the page: loopback, or unix:///PATH")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := f.check(cmd); err != nil {
			return err
		}
		state, err := folder()
		if err == nil {
			state, err = filepath.Abs(state) // the page shows command lines for any folder
		}
		if err != nil {
			return err
		}
		l, open, err := listenForOwner(listen)
		if err != nil {
			return cli.Fail(fmt.Errorf("cell ui: %w", err), "choose another with --listen: 127.0.0.1:PORT or unix:///PATH")
		}
		site := ownerpage.New(ownerpage.Options{Folder: state, Open: open,
			Compare: func(ctx context.Context, o agent.Offer, c owner.Candidate) (*ownerpage.Difference, string,
				error) {
				return f.difference(ctx, a, state, o, c)
			}})
		address, said := listen, "the owner's page is at "+listen+": forward a port to it, such as ssh -L 8420:"+
			l.Addr().String()+" HOST"
		if !open {
			address = site.Address(l.Addr().String())
			said = "the owner's page, at an address that works once: " + address
		}
		if err := a.PrintResult(map[string]any{"address": address}, func() { a.Stdout.PrintLine("%s", said) }); err != nil {
			return errors.Join(err, l.Close())
		}
		return site.Serve(cmd.Context(), l)
	}
	return cmd
}

// listenForOwner listens on loopback or a unix socket, for which open is true.
func listenForOwner(address string) (l net.Listener, open bool, err error) {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		l, err = listen.Unix(path)
		return l, true, err
	}
	l, err = listen.Loopback(strings.TrimSuffix(strings.TrimPrefix(address, "http://"), "/"))
	return l, false, err
}

// difference compares as sluice cell diff does.
func (f *diffFlags) difference(ctx context.Context, a *cli.App, state string, o agent.Offer, c owner.Candidate,
) (*ownerpage.Difference, string, error) {
	files, objects, err := f.compare(ctx, a, state, o, c)
	if err != nil {
		next, _ := cli.NextStep(err)
		return nil, next, err
	}
	d := &ownerpage.Difference{}
	if files != nil {
		d.From = files.From
		for _, one := range files.Files {
			d.Objects = append(d.Objects, ownerpage.Object{Name: one.File, Change: one.Kind, Diff: one.Diff})
		}
		return d, "", nil
	}
	d.From, d.Problems, d.Unchanged = objects.From, objects.Problems, objects.Unchanged
	for _, one := range objects.Objects {
		d.Objects = append(d.Objects, ownerpage.Object{Name: one.Object, Change: one.Change, Reason: one.Reason,
			Diff: one.Diff})
	}
	return d, "", nil
}
