"""sevkit in containers: finding an engine, building the images, running a command in one."""
