// Package signin tests signing in, with Chromium, with a plain client and by device flow, at two independent OpenID
// Connect providers: zitadel's example provider and oidc-provider for Node. It is a module of its own, to keep their
// dependencies out of the main module.
package signin
