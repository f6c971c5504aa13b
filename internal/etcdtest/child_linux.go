package etcdtest

import "syscall"

// childAttributes has the kernel kill the server when the test's process is gone, however it ended.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
