package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/flags/ofrep"
	"github.com/sluice-cd/sluice/test/figures"
	"github.com/sluice-cd/sluice/test/oracle"
)

const (
	singlePath  = "/ofrep/v1/evaluate/flags/"
	bulkPath    = "/ofrep/v1/evaluate/flags"
	callers     = 32 // concurrent
	measureTime = 2 * time.Second
)

// measureRemote compares OFREP with a handler that only reads and writes the same JSON, and its bulk answers with
// flagd/core's evaluation of the same flags without HTTP.
func measureRemote(ctx context.Context) ([]figures.Row, error) {
	two, err := foldFlags(booleanFlag, fractionalFlag)
	if err != nil {
		return nil, err
	}
	fifty, err := foldFlags(bulkKeys()...)
	if err != nil {
		return nil, err
	}
	set := map[string]oracle.Flag{}
	for _, key := range bulkKeys() {
		set[key] = flagSet()[key]
	}
	flagd, err := oracle.New(set)
	if err != nil {
		return nil, err
	}
	question, err := json.Marshal(map[string]any{"context": caller()})
	if err != nil {
		return nil, err
	}
	var sides [3]string
	for i, h := range []http.Handler{bareHandler(), ofrep.New(fixedSource{two}, zerolog.Nop(), ofrep.Options{}),
		ofrep.New(fixedSource{fifty}, zerolog.Nop(), ofrep.Options{})} {
		at, err := serveHTTP(ctx, h)
		if err != nil {
			return nil, err
		}
		sides[i] = at
	}
	var single, plain, bulk, evaluated []float64
	for range rounds {
		for _, side := range []struct {
			rates *[]float64
			url   string
		}{
			{&plain, sides[0] + singlePath + booleanFlag}, {&single, sides[1] + singlePath + booleanFlag},
			{&bulk, sides[2] + bulkPath},
		} {
			rate, err := requestRate(ctx, side.url, question)
			if err != nil {
				return nil, err
			}
			*side.rates = append(*side.rates, rate)
		}
		evaluated = append(evaluated, callRate(func() { _, _, _ = flagd.ResolveAllValues(ctx, "", caller()) }))
	}
	return []figures.Row{
		figures.RateRow(fmt.Sprintf("OFREP, one flag, %d callers", callers), figures.Median(single), "bare handler",
			figures.Median(plain), 0.95),
		figures.RateRow("OFREP, bulk of 50 flags", figures.Median(bulk), "flagd/core, no HTTP",
			figures.Median(evaluated), 20),
	}, nil
}

// bareHandler reads the request and writes the answer of OFREP's evaluation of one flag, without evaluating.
func bareHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+singlePath+"{key}", func(w http.ResponseWriter, r *http.Request) {
		var question struct {
			Context map[string]any `json:"context"`
		}
		if err := json.NewDecoder(r.Body).Decode(&question); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(struct {
			Key     string `json:"key"`
			Reason  string `json:"reason"`
			Variant string `json:"variant"`
			Value   any    `json:"value"`
		}{r.PathValue("key"), "TARGETING_MATCH", "on", true})
	})
	return mux
}

func serveHTTP(ctx context.Context, h http.Handler) (url string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s := ofrep.Server(ctx, h)
	go func() { _ = s.Serve(l) }()
	context.AfterFunc(ctx, func() { _ = s.Close() })
	return "http://" + l.Addr().String(), nil
}

// requestRate sends requests from all callers for a while, and returns answers per second.
func requestRate(ctx context.Context, url string, question []byte) (float64, error) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	defer client.CloseIdleConnections()
	var n atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	started := time.Now()
	for range callers {
		all.Go(func() {
			for time.Since(started) < measureTime && failed.Load() == nil {
				if err := post(ctx, client, url, question); err != nil {
					failed.Store(&err)
					return
				}
				n.Add(1)
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(n.Load()) / time.Since(started).Seconds(), nil
}

func post(ctx context.Context, client *http.Client, url string, question []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(question))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	w, err := client.Do(r)
	if err != nil {
		return err
	}
	defer w.Body.Close() //nolint:errcheck // read only
	_, err = io.Copy(io.Discard, w.Body)
	if err == nil && w.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, w.Status)
	}
	return err
}

// callRate calls do from all callers for a while, and returns calls per second.
func callRate(do func()) float64 {
	var n atomic.Int64
	var all sync.WaitGroup
	started := time.Now()
	for range callers {
		all.Go(func() {
			for time.Since(started) < measureTime {
				do()
				n.Add(1)
			}
		})
	}
	all.Wait()
	return float64(n.Load()) / time.Since(started).Seconds()
}
