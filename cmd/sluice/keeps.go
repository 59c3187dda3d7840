package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/controlplane"
	"github.com/sluice-cd/sluice/engine/controlplane/peopleapi"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/store/postgres"
)

// keeps is a store with all that a control plane wants of it.
type keeps interface {
	engine.Store
	engine.FlagStore
	peopleapi.Journal
	controlplane.Tokens
	Ready(ctx context.Context) error
	// Fact gives a single value by name; empty: there is none. KeepFact replaces it if before is what is there, else engine.ErrStale.
	Fact(ctx context.Context, name string) (string, error)
	KeepFact(ctx context.Context, name, before, value string) error
	Close() error
}

// openStore opens the store in --database, or the one in --data.
func (a *app) openStore(ctx context.Context, log zerolog.Logger) (keeps, error) {
	if a.database == "" {
		return store.Open(ctx, filepath.Join(a.data, storeFile), log)
	}
	u, err := url.Parse(a.database)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, fail(errors.New("--database is no address of a PostgreSQL database"), "write it as postgres://USER@HOST:PORT/DATABASE, its password in PGPASSWORD or a password file")
	}
	return postgres.Open(ctx, a.database, postgres.Options{Log: log})
}

// spoken is what the store knows of the control plane that cells are told of: so that sluice cell add needs no
// more, and a replica with other keys, which cells would not believe, does not start (R29).
type spoken struct {
	Address string   `json:"address"` // HOST:PORT under which cells reach it
	Pins    []string `json:"pins"`    // of its keys: active and standby
}

const spokenFact = "control-plane"

func readSpoken(ctx context.Context, st keeps) (s spoken, kept string, err error) {
	if kept, err = st.Fact(ctx, spokenFact); err != nil || kept == "" {
		return s, kept, err
	}
	if err := json.Unmarshal([]byte(kept), &s); err != nil {
		return s, kept, fmt.Errorf("what the store knows of the control plane is damaged: %w", err)
	}
	return s, kept, nil
}

// agree makes the store know where cells reach this control plane and by which keys, or says that it knows others. The one
// that started last counts; where that is another address or standby key, replicas may not have been started alike.
func agree(ctx context.Context, st keeps, mine spoken, dir string, log zerolog.Logger) error {
	for {
		known, kept, err := readSpoken(ctx, st)
		if err != nil {
			return fmt.Errorf("serve: %w", err)
		}
		if kept != "" && !slices.Contains(known.Pins, mine.Pins[0]) {
			return fail(fmt.Errorf("serve: the active key in %s is %s, and cells of this store know only %s: they would not believe it", dir, mine.Pins[0], known.Pins),
				"copy active.key and standby.key from the --tls-dir of a replica that works, or from the backup, to %s", dir)
		}
		if known.Address == mine.Address && slices.Equal(known.Pins, mine.Pins) {
			return nil
		}
		data, err := json.Marshal(mine)
		if err != nil {
			return err
		}
		err = st.KeepFact(ctx, spokenFact, kept, string(data))
		switch {
		case errors.Is(err, plan.ErrStale): // another replica was quicker: look again
			continue
		case err != nil:
			return err
		case kept != "" && known.Address != mine.Address:
			log.Warn().Str("before", known.Address).Str("now", mine.Address).Msg("new cells are told another address from now on: give all replicas the same --cells-address")
		}
		if kept != "" && known.Pins[0] == mine.Pins[0] && !slices.Equal(known.Pins, mine.Pins) {
			log.Warn().Strs("before", known.Pins).Strs("now", mine.Pins).Msg("the standby key is another from now on: if other replicas run, copy this --tls-dir to them, else cells learn now one and now the other")
		}
		return nil
	}
}

// hasPassword tells whether a database's address has its password in it.
func hasPassword(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return true // who knows
	}
	_, has := u.User.Password()
	return has || u.Query().Has("password")
}
