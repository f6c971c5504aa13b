//go:build !linux

package etcdtest

import "syscall"

func childAttributes() *syscall.SysProcAttr { return nil }
