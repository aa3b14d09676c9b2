# Configuration, host lists and the plan: text in, `LaunchPlan` out; no socket, no process. Included by CMakeLists.txt.
add_library(llmlaunch_config STATIC
  accelerate_env.cpp
  accelerate_hosts.cpp
  accelerate_sections.cpp
  accelerate_settings.cpp
  config.cpp
  config_llmlaunch.cpp
  config_logs.cpp
  config_process.cpp
  config_reader.cpp
  config_schema.cpp
  config_settings.cpp
  config_source.cpp
  config_yaml.cpp
  env_rules.cpp
  env_template.cpp
  file_kind.cpp
  group_file.cpp
  host_expression.cpp
  host_regex.cpp
  host_scan.cpp
  hostfile.cpp
  hostlist.cpp
  hostlist_fold.cpp
  hosts_json.cpp
  log_settings.cpp
  plan.cpp
  plan_env.cpp
  process_settings.cpp
  proxy_jump.cpp
)
target_link_libraries(llmlaunch_config PUBLIC llmlaunch_base PRIVATE yaml-cpp nlohmann_json::nlohmann_json)
