package plane

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sluice-cd/sluice/channels/trust"
)

// FetchTrust requests the files by which the cell verifies releases: what is newer than the root that it has.
func (c *Client) FetchTrust(ctx context.Context, root int64) (b trust.Bundle, err error) {
	ctx, cancel := callContext(ctx, 30*time.Second)
	defer cancel()
	response, err := c.send(ctx, http.MethodGet, "/v1/trust",
		url.Values{"cell": {c.cell}, "have": {strconv.FormatInt(root, 10)}}, nil, nil)
	if err != nil {
		return b, fmt.Errorf("request the signers' files: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := readLimited(response.Body, trust.MaxBundle)
	if err == nil {
		err = json.Unmarshal(text, &b)
	}
	if err != nil {
		return trust.Bundle{}, fmt.Errorf("request the signers' files: %w", err)
	}
	return b, nil
}
