package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/flags"
)

// askAgent evaluates a flag as a cell's product does, by OFREP. No token goes there.
func (a *app) askAgent(ctx context.Context, agent, key string, caller flags.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	body, err := json.Marshal(map[string]any{"context": caller})
	if err != nil {
		return err
	}
	a.server = agent
	base, transport := a.transport()
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(base, "/")+"/ofrep/v1/evaluate/flags/"+url.PathEscape(key), bytes.NewReader(body))
	if err != nil {
		return fail(fmt.Errorf("ask %s: it is no address: %w", agent, cause(err)), "--agent is http://127.0.0.1:PORT or unix:///PATH")
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return fail(fmt.Errorf("ask %s: %w", agent, cause(err)), "does sluice agent run there with --flags-listen?")
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxRule))
	if err != nil {
		return fmt.Errorf("ask %s: %w", agent, err)
	}
	var said struct {
		evaluated
		Details string `json:"errorDetails"`
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		return fail(fmt.Errorf("ask %s: %s: its answer is not understood", agent, resp.Status), "--agent is the place of sluice agent's --flags-listen")
	}
	if resp.StatusCode != http.StatusOK {
		return fail(fmt.Errorf("ask %s: %s %s", agent, said.Error, said.Details), "sluice cell flags shows what is in force there")
	}
	if reason, killed := said.Metadata["killed"].(string); killed {
		said.Why = "it is killed: " + reason
	}
	said.Key, said.At = key, time.Now().Truncate(time.Second)
	return a.printEvaluated(said.evaluated)
}
