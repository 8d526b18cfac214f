package gateway

import (
	"net/http"
	"strings"
	"time"

	authv1 "coatcheck/proto/coatcheck/auth/v1"
)

// tokens are an answer to POST /v1/tokens, in the words of RFC 6749.
type tokens struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"` // seconds
	RefreshToken string `json:"refresh_token"`
}

// issueTokens logs a client in that has no cookies, or renews what it has. The
// cart of a guest stays the guest's: such a client has none.
func (g *Gateway) issueTokens(w *answer, r *http.Request) error {
	in, err := decodeGrant(w, r)
	if err != nil {
		return err
	}
	var issued *authv1.Tokens
	if in.refreshToken == "" {
		resp, _, err := ask(r.Context(), w.end, g.passwords, g.auth.IssueTokens, &authv1.IssueTokensRequest{
			Email: in.email, Password: in.password, Device: cut(strings.ToValidUTF8(r.UserAgent(), ""), 256),
			ClientAddress: g.proxies.client(r).String(),
		})
		if err != nil {
			return err
		}
		issued = resp.GetTokens()
	} else {
		resp, _, err := ask(r.Context(), w.end, g.authBackend, g.auth.RefreshTokens, &authv1.RefreshTokensRequest{RefreshToken: in.refreshToken})
		if err != nil {
			return err
		}
		issued = resp.GetTokens()
	}
	expires := time.Until(issued.GetAccessExpiresAt().AsTime()).Round(time.Second)
	return reply(w, http.StatusOK, tokens{
		AccessToken: issued.GetAccessToken(), TokenType: "Bearer", ExpiresIn: int64(expires / time.Second), RefreshToken: issued.GetRefreshToken(),
	})
}
