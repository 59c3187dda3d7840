package plane

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/sluice-cd/sluice/cells/debug"
)

// FetchDebug requests the open requests for debug access to the cell. None of them is checked.
func (c *Client) FetchDebug(ctx context.Context) (all debug.Requests, err error) {
	ctx, cancel := callContext(ctx, 30*time.Second)
	defer cancel()
	response, err := c.send(ctx, http.MethodGet, "/v1/debug", url.Values{"cell": {c.cell}}, nil, nil)
	if err != nil {
		return all, fmt.Errorf("ask for requests for debug access: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := readLimited(response.Body, debug.MaxRequests)
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		return debug.Requests{}, fmt.Errorf("ask for requests for debug access: %w", err)
	}
	return all, nil
}
