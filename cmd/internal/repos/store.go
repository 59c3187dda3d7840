package repos

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

	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/audit"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/engine/exports"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/records"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/store/postgres"
	"github.com/sluice-cd/sluice/engine/view"
)

// Store is the store of a control plane, in SQLite or PostgreSQL.
type Store interface {
	engine.Store
	engine.FlagStore
	engine.Audit
	peopleapi.Journal
	controlplane.Tokens
	Ready(ctx context.Context) error
	// Fact returns a single value by name; empty: there is none. KeepFact replaces the value if it still is
	// before, else it returns plan.ErrStale.
	Fact(ctx context.Context, name string) (string, error)
	SetFact(ctx context.Context, name, before, value string) error
	Records() records.Store
	// ExportAudit calls begin with the header of an export of the audit, and write with each row, oldest first.
	ExportAudit(ctx context.Context, begin func(audit.Header) error, write func(audit.Sealed) error) error
	Close() error
}

// OpenStore opens the database that --database names, or the store in --data, which a control plane must have made: a
// store beside the one that is served would take what nobody reads.
func OpenStore(ctx context.Context, a *cli.App, log zerolog.Logger) (Store, error) {
	if err := CheckStore(a); err != nil {
		return nil, err
	}
	return openStore(a, ctx, log)
}

// MakeStore is OpenStore for a control plane, which makes the store if it is not there.
func MakeStore(a *cli.App, ctx context.Context, log zerolog.Logger) (Store, error) {
	if err := RefuseSecondStore(a); err != nil {
		return nil, err
	}
	st, err := openStore(a, ctx, log)
	if err != nil {
		return nil, err
	}
	if a.Database != "" {
		mark := "The store of the control plane that uses this folder is in PostgreSQL.\n"
		if err := os.WriteFile(filepath.Join(a.Data, elsewhereFile), []byte(mark), 0o600); err != nil {
			return nil, errors.Join(err, st.Close())
		}
	}
	return st, nil
}

// elsewhereFile says, in --data, that the store of the control plane that uses the folder is in PostgreSQL.
const elsewhereFile = "store-in-postgresql"

// RefuseSecondStore refuses to make a store in --data beside the one in PostgreSQL: it would be empty or outdated, with
// tokens that were removed since.
func RefuseSecondStore(a *cli.App) error {
	file := filepath.Join(a.Data, elsewhereFile)
	if _, err := os.Stat(file); a.Database != "" || err != nil {
		return nil //nolint:nilerr // the mark is not there
	}
	return cli.Fail(fmt.Errorf("the control plane that uses %s keeps its store in PostgreSQL", a.Data),
		"name its database with --database; to leave PostgreSQL for a store in the folder, remove %s first", file)
}

// CheckStore refuses --data where no control plane keeps its store.
func CheckStore(a *cli.App) error {
	if a.Database != "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(a.Data, elsewhereFile)); err == nil {
		return cli.Fail(fmt.Errorf("the control plane that uses %s keeps its store in PostgreSQL", a.Data),
			"ask it with --server ADDRESS, or name its database with --database")
	}
	if _, err := os.Stat(filepath.Join(a.Data, StoreFile)); errors.Is(err, fs.ErrNotExist) {
		return cli.Fail(fmt.Errorf("there is no store in %s: no control plane has used that folder", a.Data),
			"--data names the folder that sluice serve uses; or ask the control plane with --server ADDRESS")
	}
	return nil
}

// CheckData refuses a --data folder that is not there, for verbs that do not make it.
func CheckData(a *cli.App) error {
	if a.Data == "" {
		return nil
	}
	switch info, err := os.Stat(a.Data); {
	case err == nil && !info.IsDir():
		return cli.Fail(fmt.Errorf("--data %s is no folder", a.Data), "it names the folder that sluice serve uses")
	case errors.Is(err, fs.ErrNotExist):
		return cli.Fail(fmt.Errorf("--data %s: there is no such folder, and nothing was made", a.Data),
			"it names the folder that sluice serve uses; check the path")
	}
	return nil
}

func openStore(a *cli.App, ctx context.Context, log zerolog.Logger) (Store, error) {
	if a.Database == "" {
		return store.Open(ctx, filepath.Join(a.Data, StoreFile), log)
	}
	u, err := url.Parse(a.Database)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, cli.Fail(errors.New("--database is not the address of a PostgreSQL database"),
			"write it as postgres://USER@HOST:PORT/DATABASE, its password in PGPASSWORD or a password file")
	}
	return postgres.Open(ctx, a.Database, postgres.Options{Log: log})
}

// Advertised is the address and the keys of the control plane that cells get. The store holds it, so that
// sluice cell add needs nothing else, and a replica with keys that cells would not trust does not start (R29).
type Advertised struct {
	Address string   `json:"address"` // HOST:PORT under which cells reach it
	Pins    []string `json:"pins"`    // of the active and the standby key
}

const AdvertisedFact = "control-plane"

// LocalFact is where the control plane answers on its own machine, for cells without keys: an address for --server.
const LocalFact = "local-address"

// ReadAdvertised returns the stored value, and its encoded form for KeepFact; empty: none is stored.
func ReadAdvertised(ctx context.Context, st Store) (s Advertised, stored string, err error) {
	if stored, err = st.Fact(ctx, AdvertisedFact); err != nil || stored == "" {
		return s, stored, err
	}
	if err := json.Unmarshal([]byte(stored), &s); err != nil {
		return s, stored, fmt.Errorf("the address of the control plane in the store is damaged: %w", err)
	}
	return s, stored, nil
}

// engineKeyFact is the key that the engine on this store signs with. Views that are made from the store alone need it:
// an engine whose key is not listed pushes nothing (R46).
const engineKeyFact = "engine-key"

// StoreEngineKey notes the key of the engine that starts on a store.
func StoreEngineKey(ctx context.Context, st Store, key string) error {
	before, err := st.Fact(ctx, engineKeyFact)
	if err == nil && before != key {
		err = st.SetFact(ctx, engineKeyFact, before, key)
	}
	if errors.Is(err, plan.ErrStale) {
		return nil // another replica starts too, and noted its key
	}
	return err
}

// HasPassword reports whether the address of a database contains a password.
func HasPassword(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return true // it may
	}
	_, has := u.User.Password()
	return has || u.Query().Has("password")
}

// DecideView decides as the engine would now, from repo and the store in --data.
func DecideView(ctx context.Context, a *cli.App, repo *OpenRepository) (*view.View, error) {
	s, err := repo.ReadReleases(ctx)
	if err != nil {
		return nil, err
	}
	observed, err := LoadObserved(ctx, a)
	if err != nil {
		return nil, err
	}
	return &view.View{Desired: s.Desired, Observed: &observed, NotObserved: !NamesStore(a),
		Plan: plan.Make(s.Desired, &observed, time.Now().UTC())}, nil
}

// NamesStore reports whether the command line or the environment names a store.
func NamesStore(a *cli.App) bool { return a.Data != "" || a.Database != "" }

// CheckObserved refuses what only observations answer where neither a control plane nor a store is named. A control
// plane in the environment counts beside --repo, which says where to commit.
func CheckObserved(a *cli.App) error {
	if client.UsesServer(a) || NamesStore(a) {
		return nil
	}
	if a.Server = a.Getenv("SLUICE_SERVER"); a.Server != "" {
		return nil
	}
	return cli.Fail(errors.New("what cells run is not known here"),
		"ask the control plane with --server, or name its store with --data or --database")
}

// NoteNotObserved says beside what is shown that nothing is known of cells, if that is so.
func NoteNotObserved(a *cli.App) {
	if !client.UsesServer(a) && !NamesStore(a) {
		a.PrintNotes([]string{view.NotObserved})
	}
}

// LocalView is DecideView for the release repository that the command line names. all reads every release.
func LocalView(ctx context.Context, a *cli.App, cmd *cobra.Command, all bool) (*view.View, error) {
	repo, err := OpenReleases(ctx, a, cmd)
	if err != nil {
		return nil, err
	}
	defer repo.Close()
	repo.Loader.AllReleases = all
	return DecideView(ctx, a, repo)
}

// FetchStatus returns the status, from the control plane or from the repository and the store. It opens *repo
// if that is nil and needed.
func FetchStatus(ctx context.Context, a *cli.App, cmd *cobra.Command, repo **OpenRepository,
	page view.StatusPage) (view.Status, error) {
	if client.UsesServer(a) {
		return client.FetchServerStatus(ctx, a, page.Channel)
	}
	if *repo == nil {
		r, err := OpenReleases(ctx, a, cmd)
		if err != nil {
			return view.Status{}, err
		}
		*repo = r
	}
	v, err := DecideView(ctx, a, *repo)
	if err == nil && page.Channel != "" {
		_, err = (&edits.Releases{Desired: v.Desired}).Channel(page.Channel)
	}
	if err != nil {
		return view.Status{}, err
	}
	s := view.StatusOf(v, page)
	err = ReadStore(ctx, a, func(st Store) error {
		return exports.New(st.Records(), nil).AddToStatus(ctx, &s)
	})
	return s, err
}

// LoadObserved reads the observations from the store that --data or --database names; without one, there are
// none.
func LoadObserved(ctx context.Context, a *cli.App) (o plan.Observed, err error) {
	o = plan.Observed{Cells: map[string]*plan.CellState{}}
	err = ReadStore(ctx, a, func(st Store) error {
		known, err := st.Known(ctx)
		if err == nil {
			known.Cells, err = st.Cells(ctx)
		}
		if err == nil {
			known.Key, err = st.Fact(ctx, engineKeyFact)
			o = known
		}
		return err
	})
	return o, err
}

// ReadStore calls read with the store that --data or --database names, if there is one: reading makes no store.
func ReadStore(ctx context.Context, a *cli.App, read func(Store) error) error {
	if !NamesStore(a) {
		return nil
	}
	st, err := OpenStore(ctx, a, a.Logger())
	if err != nil {
		return err
	}
	return errors.Join(read(st), st.Close())
}

// StoreFile is the store's name in --data.
const StoreFile = "sluice.db"
