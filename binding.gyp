{
  "targets": [
    {
      "target_name": "ocelli",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake-js",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["build/Release/ocelli.node"],
          "action": ["node", "node_modules/cmake-js/bin/cmake-js", "build", "-O", "out/native", "-T", "ocelli"]
        }
      ]
    }
  ]
}
