package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/store/postgres"
	"github.com/sluice-cd/sluice/engine/view"
)

// Store is a store with all that a control plane wants of it.
type Store interface {
	engine.Store
	engine.FlagStore
	peopleapi.Journal
	controlplane.Tokens
	Ready(ctx context.Context) error
	// Fact gives a single value by name; empty: there is none. KeepFact replaces it if before is what is there, else plan.ErrStale.
	Fact(ctx context.Context, name string) (string, error)
	KeepFact(ctx context.Context, name, before, value string) error
	Close() error
}

// OpenStore opens the store in --database, or the one in --data.
func (a *App) OpenStore(ctx context.Context, log zerolog.Logger) (Store, error) {
	if a.Database == "" {
		return store.Open(ctx, filepath.Join(a.Data, StoreFile), log)
	}
	u, err := url.Parse(a.Database)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, Fail(errors.New("--database is not the address of a PostgreSQL database"), "write it as postgres://USER@HOST:PORT/DATABASE, its password in PGPASSWORD or a password file")
	}
	return postgres.Open(ctx, a.Database, postgres.Options{Log: log})
}

// Advertised is what the store knows of the control plane that cells are told of: so that sluice cell add needs no
// more, and a replica with other keys, which cells would not believe, does not start (R29).
type Advertised struct {
	Address string   `json:"address"` // HOST:PORT under which cells reach it
	Pins    []string `json:"pins"`    // of its keys: active and standby
}

const AdvertisedFact = "control-plane"

// ReadAdvertised gives what the store knows, and as it is kept there; empty: nothing yet.
func ReadAdvertised(ctx context.Context, st Store) (s Advertised, kept string, err error) {
	if kept, err = st.Fact(ctx, AdvertisedFact); err != nil || kept == "" {
		return s, kept, err
	}
	if err := json.Unmarshal([]byte(kept), &s); err != nil {
		return s, kept, fmt.Errorf("the address of the control plane in the store is damaged: %w", err)
	}
	return s, kept, nil
}

// HasPassword tells whether a database's address has its password in it.
func HasPassword(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return true // who knows
	}
	_, has := u.User.Password()
	return has || u.Query().Has("password")
}

// DecideView decides as the engine would now, from the repository and the store in --data.
func (a *App) DecideView(ctx context.Context, repo *OpenRepository) (*view.View, error) {
	s, err := repo.ReadReleases(ctx)
	if err != nil {
		return nil, err
	}
	observed, err := a.LoadObserved(ctx)
	if err != nil {
		return nil, err
	}
	return &view.View{Desired: s.Desired, Observed: &observed, Plan: plan.Make(s.Desired, &observed, time.Now().UTC())}, nil
}

// LocalView is View of the release repository that the command line names.
func (a *App) LocalView(ctx context.Context, cmd *cobra.Command, all bool) (*view.View, error) {
	repo, err := a.OpenReleases(ctx, cmd)
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	repo.Loader.All = all
	return a.DecideView(ctx, repo)
}

// FetchStatus tells where everything is: as the control plane knows it, or as the repository and the store say.
func FetchStatus(ctx context.Context, a *App, cmd *cobra.Command, repo **OpenRepository, page view.StatusPage) (view.Status, error) {
	if a.UsesServer() {
		return FetchServerStatus(ctx, a, page.Channel)
	}
	if *repo == nil {
		r, err := a.OpenReleases(ctx, cmd)
		if err != nil {
			return view.Status{}, err
		}
		*repo = r
	}
	v, err := a.DecideView(ctx, *repo)
	if err != nil {
		return view.Status{}, err
	}
	return view.StatusOf(v, page), nil
}

// LoadObserved reads what was observed from the store in --data. Without one, nothing was.
func (a *App) LoadObserved(ctx context.Context) (plan.Observed, error) {
	none := plan.Observed{Cells: map[string]*plan.CellState{}}
	if a.Data == "" && a.Database == "" {
		return none, nil
	}
	if _, err := os.Stat(filepath.Join(a.Data, StoreFile)); a.Database == "" && errors.Is(err, fs.ErrNotExist) {
		return none, nil // nothing ran here yet, and looking makes no store
	}
	st, err := a.OpenStore(ctx, a.Logger())
	if err != nil {
		return none, err
	}
	defer st.Close()
	o, err := st.Known(ctx)
	if err == nil {
		o.Cells, err = st.Cells(ctx)
	}
	return o, err
}

// StoreFile is the store's name in --data.
const StoreFile = "sluice.db"
