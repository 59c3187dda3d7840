package ofrep

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/flags"
)

const question = `{"context":{"targetingKey":"user-1","tier":"gold","mail":"ann@example.com","age":41}}`

// benchmarkPost posts over kept connections, as providers do, from as many callers as there are processors.
func benchmarkPost(b *testing.B, url string) {
	b.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			got, err := client.Post(url, "application/json", bytes.NewReader([]byte(question)))
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, got.Body)
			_ = got.Body.Close()
			if got.StatusCode != http.StatusOK {
				b.Errorf("status %d", got.StatusCode)
				return
			}
		}
	})
}

// fiftyFlags returns 50 flags with a rule and a fractional each.
func fiftyFlags(b *testing.B) *flags.Folded {
	b.Helper()
	set := &flags.Bundle{Version: flags.BundleVersion, Channel: "dedicated", Flags: map[string]json.RawMessage{}}
	for i := range 50 {
		set.Flags[fmt.Sprintf("flag-%02d",
			i)] = json.RawMessage(`{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"off",` +
			`"targeting":{"if":[{"ends_with":[{"var":"mail"},"@example.com"]},{"fractional":[["on",50],["off",50]]},null]},"metadata":{"owner":"web"}}`)
	}
	return compile(b, set).Fold(flags.Orders{}, acmeFacts(), 100)
}

func BenchmarkSingle(b *testing.B) {
	benchmarkPost(b,
		start(b,
			Server(b.Context(), New(newTestSource(fiftyFlags(b), 100), zerolog.Nop(), Options{})))+flagPath+"flag-07")
}

func BenchmarkBulk50(b *testing.B) {
	benchmarkPost(b,
		start(b, Server(b.Context(), New(newTestSource(fiftyFlags(b), 100), zerolog.Nop(), Options{})))+bulkPath)
}

// BenchmarkBareHandler reads and writes the same JSON as BenchmarkSingle, and nothing else.
func BenchmarkBareHandler(b *testing.B) {
	type request struct {
		Context map[string]any `json:"context"`
	}
	type response struct {
		Key      string         `json:"key"`
		Reason   string         `json:"reason"`
		Variant  string         `json:"variant"`
		Value    any            `json:"value"`
		Metadata map[string]any `json:"metadata"`
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+flagPath+"{key}", func(w http.ResponseWriter, r *http.Request) {
		var q request
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(response{
			r.PathValue("key"), "TARGETING_MATCH", "on", true, map[string]any{"owner": "web"},
		})
	})
	benchmarkPost(b, start(b, Server(b.Context(), mux))+flagPath+"flag-07")
}
