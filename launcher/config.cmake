# Configuration, host lists and the plan: text in, `LaunchPlan` out; no socket, no process. Included by CMakeLists.txt.
add_library(llmlaunch_config STATIC
  accelerate_env.cpp
  accelerate_hosts.cpp
  accelerate_sections.cpp
  accelerate_settings.cpp
  config.cpp
  config_answers.cpp
  config_assignment.cpp
  config_include.cpp
  config_layers.cpp
  config_json_schema.cpp
  config_llmlaunch.cpp
  config_logs.cpp
  config_process.cpp
  config_reader.cpp
  config_references.cpp
  config_schema.cpp
  config_settings.cpp
  config_source.cpp
  config_text.cpp
  config_values.cpp
  config_yaml.cpp
  env_rules.cpp
  env_template.cpp
  file_kind.cpp
  genders.cpp
  group_file.cpp
  host_expression.cpp
  host_regex.cpp
  host_scan.cpp
  host_twins.cpp
  hostfile.cpp
  hostlist.cpp
  hostlist_fold.cpp
  hosts_json.cpp
  log_settings.cpp
  plan.cpp
  plan_env.cpp
  plan_json.cpp
  plan_machines.cpp
  plan_secrets.cpp
  plan_shares.cpp
  process_settings.cpp
  proxy_jump.cpp
  survey.cpp
  survey_facts.cpp
  survey_json.cpp
  survey_script.cpp
  survey_table.cpp
)
target_link_libraries(llmlaunch_config PUBLIC llmlaunch_base PRIVATE llmlaunch_address_list yaml-cpp nlohmann_json::nlohmann_json)
target_precompile_headers(llmlaunch_config REUSE_FROM llmlaunch_base)
set_target_properties(llmlaunch_config PROPERTIES UNITY_BUILD_BATCH_SIZE 14)
