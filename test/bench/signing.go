package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/signing"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/releases"
	"github.com/sluice-cd/sluice/test/figures"
)

const promotionCount = 60

// measureSigning compares a promotion where everything is signed and checked (R46, R52) with one where nothing is: from
// a release on the branch until the engine has pushed its decision and read it back.
func measureSigning(ctx context.Context, dir string) (rows []figures.Row, err error) {
	signed, err := newPromoter(ctx, filepath.Join(dir, "signed"), true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, signed.close()) }()
	unsigned, err := newPromoter(ctx, filepath.Join(dir, "unsigned"), false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unsigned.close()) }()
	all := []*promoter{signed, unsigned}
	for i := range promotionCount {
		for _, p := range all { // in turns, so that a slow moment of the machine affects both
			if err := p.promote(ctx, i); err != nil {
				return nil, err
			}
		}
		slices.Reverse(all)
	}
	return []figures.Row{figures.TimeRow("a promotion, signed: engine.keys, owners, signedReleases",
		figures.Median(slices.Sorted(slices.Values(signed.took))), "engine: unsigned",
		figures.Median(slices.Sorted(slices.Values(unsigned.took))), 1.1)}, nil
}

// promoter is a release repository with one channel, and the engine that promotes in it.
type promoter struct {
	people, repo *gitrepo.Repo
	store        *store.Store
	engine       *engine.Engine
	took         []time.Duration // from a release on the branch until its promotion was read back
}

func newPromoter(ctx context.Context, dir string, signed bool) (p *promoter, err error) {
	p = &promoter{}
	var key string
	keys := map[string]*gitrepo.SSHSigner{}
	trust := "engine: unsigned\n"
	if signed {
		for _, name := range []string{"ada", "engine"} {
			signer, err := signing.LoadOrCreate(filepath.Join(dir, name+".key"), rand.Reader)
			if err != nil {
				return nil, err
			}
			keys[name] = &gitrepo.SSHSigner{Key: signer}
		}
		key = signing.Public(keys["engine"].Key)
		trust = fmt.Sprintf("people: {ada: {keys: [%q]}}\nowners: [ada]\nsignedReleases: true\nengine: {keys: [%q]}\n",
			signing.Public(keys["ada"].Key), key)
	}
	url := filepath.Join(dir, "releases.git")
	if _, err = gitrepo.Init(ctx, url, gitrepo.InitOptions{Bare: true, Message: "begin", When: time.Now(),
		Author: releases.Person{Name: "Ada", Email: "ada@example.com"},
		Files: map[string][]byte{
			"sluice.yaml":                   []byte("apiVersion: sluice/v1\nkind: Pipeline\n" + trust),
			"channels/staging/channel.yaml": []byte("apiVersion: sluice/v1\nkind: Channel\nadvance: newest\n"),
			"cells/s1/cell.yaml":            []byte("apiVersion: sluice/v1\nkind: Cell\nchannel: staging\n"),
		}}); err != nil {
		return nil, err
	}
	open := func(name string) (*gitrepo.Repo, error) {
		who := releases.Person{Name: name, Email: name + "@example.com"}
		o := gitrepo.Options{Mirror: filepath.Join(dir, name), Author: who}
		if keys[name] != nil {
			o.Signer = keys[name]
		}
		return gitrepo.Open(ctx, url, o)
	}
	if p.people, err = open("ada"); err != nil {
		return nil, err
	}
	if p.repo, err = open("engine"); err != nil {
		return nil, err
	}
	if p.store, err = store.Open(ctx, filepath.Join(dir, "store.db"), zerolog.Nop()); err != nil {
		return nil, err
	}
	p.engine, err = engine.New(ctx, p.repo, p.store, engine.Options{Log: zerolog.Nop(), Key: key})
	return p, err
}

// promote cuts release i, and has the engine promote it.
func (p *promoter) promote(ctx context.Context, i int) error {
	version := fmt.Sprintf("1.%d.0", i)
	tip, err := p.people.Fetch(ctx)
	if err != nil {
		return err
	}
	folder := "releases/" + version + "/"
	_, err = p.people.Push(ctx, tip, []releases.Draft{{Message: "cut " + version, When: time.Now(),
		Files: map[string][]byte{
			folder + "release.yaml":       []byte("apiVersion: sluice/v1\nkind: Release\nversion: " + version + "\n"),
			folder + "kustomization.yaml": []byte("resources: [app.yaml]\n"),
			folder + "app.yaml":           []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\n"),
		}}})
	if err != nil {
		return err
	}
	begin := time.Now()
	if _, err := p.engine.Tick(ctx); err != nil {
		return err
	}
	p.took = append(p.took, time.Since(begin))
	if head := p.engine.View().Desired.Channels["staging"].Effective; head == nil || head.Release != version {
		return fmt.Errorf("release %s was not promoted: the head is %+v", version, head)
	}
	return nil
}

func (p *promoter) close() error {
	return errors.Join(p.people.Close(), p.repo.Close(), p.store.Close())
}
