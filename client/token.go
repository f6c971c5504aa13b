package client

import (
	"time"

	"physalia/internal/access"
	"physalia/internal/rpc"
	"physalia/internal/wire"
)

// tokenEvery is how soon a new token is noticed.
const tokenEvery = 5 * time.Second

// readToken reads Config.TokenFile.
func (c *Client) readToken() error {
	if c.cfg.TokenFile == "" {
		return nil
	}
	text, err := access.ReadToken(c.cfg.TokenFile)
	if err == nil {
		c.token.Store(&text)
	}
	return err
}

// ReloadToken reads Config.TokenFile now rather than within seconds, for whoever has just changed it, and shows a new token to every
// server that the Client is connected to. When the file cannot be used, the old token goes on, and the error says why.
func (c *Client) ReloadToken() error {
	old := c.token.Load()
	if err := c.readToken(); err != nil || old == nil || *c.token.Load() == *old {
		return err
	}
	c.links.Range(func(_, v any) bool {
		l := v.(*link)
		if conn := l.conn.Load(); conn != nil {
			c.present(conn, l.addr)
		}
		return true
	})
	return nil
}

// watchToken reads the token again and again, until the Client is closed.
func (c *Client) watchToken() {
	if c.cfg.TokenFile == "" {
		return
	}
	ticker := time.NewTicker(tokenEvery)
	defer ticker.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-ticker.C:
			if err := c.ReloadToken(); err != nil {
				c.cfg.Logger.Error("physalia: the token cannot be read again, the old one goes on", "err", err)
			}
		}
	}
}

// present shows the token on a connection. Requests behind it need not wait for the answer: the other side takes them in order, and
// tells with each of them why a token does not count. It returns what it has shown.
func (c *Client) present(conn *rpc.Conn, addr string) (shown *string) {
	token := c.token.Load()
	if token == nil {
		return nil
	}
	conn.Go(wire.MethodPresent, &wire.Present{Token: *token}, func(_ []byte, err error) {
		if err != nil && c.ctx.Err() == nil {
			c.cfg.Logger.Error("physalia: the token does not count", "addr", addr, "err", err)
		}
	})
	return token
}
